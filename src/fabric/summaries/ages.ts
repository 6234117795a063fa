/** How long ago each source of summaries was last heard of, as links tell it (docs/design/summaries.md, In a region). */

import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import { BoundedMap } from "../../lib/bounded-map.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { SourceAgesFrame, VectorTimes } from "../wire/messages.ts";

/** Sources in one frame. */
const MAX_SOURCES = 256;
/** Most ages that a node knows: those of all sources that it may hold, and of its own cluster. */
export const MAX_AGES = 257;
const MAX_KEPT = 2 * MAX_AGES;
/** Time between two frames of ages on a link, at least. */
const TELL_MS = 1000;
/** A receipt that is fresher by less, of the same beacon, is no news. */
const SAME_MS = 500;

/** What the region knows of when it last had a beacon of a source. */
export interface SourceAge {
  readonly source: string;
  /** Version of that beacon. */
  readonly version: number;
  readonly ageMs: number;
}

/** The receipts of beacons at this node: `HeldSummaries` of `src/summary/held/`. After it changed, the fabric is to be given a tick. */
export interface SourceReceipts {
  /** Of all sources, at most `MAX_AGES`. Version 0: nothing was ever received of it. */
  ages(time: Time): readonly SourceAge[];
  /** Those that moved since the last call, which only the channel makes. */
  newAges(time: Time): readonly SourceAge[];
  /** After so long without a beacon nothing of a source counts. */
  readonly lostAfterMs: number;
  /** Whether the source of a record took it back, or is lost for so long that nothing of it counts any more. */
  isOver(record: StoredRecord): boolean;
  /** Whether it is the word of a source that something is gone, and proven. */
  isTakenBack(record: StoredRecord): boolean;
  /** Another node of the region had that beacon so long ago. If it is not held or proven here yet, that counts as soon as it is. */
  heardAge(age: SourceAge, time: Time): void;
}

interface Receipt {
  readonly version: number;
  readonly monoMs: number;
}

interface Row extends Receipt {
  /** The node that told of it. Undefined when this node had the beacon itself. */
  readonly via: string | undefined;
}

/** For all links of a node: the receipts as they moved last, and who told of them. */
export class SourceAges {
  readonly #receipts: SourceReceipts;
  readonly rows = new BoundedMap<string, Row>(MAX_KEPT);
  /** What was told last of a source, and by whom. */
  readonly #told = new BoundedMap<string, Receipt & { readonly nodeId: string }>(MAX_KEPT);
  /** Counts the rows that changed. */
  order = 0;

  constructor(receipts: SourceReceipts) {
    this.#receipts = receipts;
  }

  /** HOT: after every input. */
  tick(time: Time): void {
    for (const age of this.#receipts.newAges(time)) {
      this.#note(age, time);
      this.order += 1;
    }
  }

  /** All rows, for a link that is new. */
  all(time: Time): ReadonlyMap<string, Row> {
    const ages = this.#receipts.ages(time);
    const sources = new Set(ages.map(({ source }) => source));
    for (const source of this.rows.keys()) if (!sources.has(source)) this.rows.delete(source);
    for (const age of ages) if (!this.rows.has(age.source)) this.#note(age, time);
    return this.rows;
  }

  /** A node of the region tells of a receipt; `monoMs` is when it was at the earliest, by our clock. */
  heard(nodeId: string, source: string, { version, monoMs }: Receipt, time: Time): void {
    this.#told.set(source, { version, monoMs, nodeId });
    this.#receipts.heardAge({ source, version, ageMs: time.monoMs - monoMs }, time);
  }

  #note({ source, version, ageMs }: SourceAge, time: Time): void {
    const monoMs = time.monoMs - ageMs;
    const told = this.#told.get(source);
    const isTold = told?.version === version && Math.abs(told.monoMs - monoMs) < SAME_MS;
    this.rows.set(source, { version, monoMs, via: isTold ? told.nodeId : undefined });
  }
}

/**
 * Whether a receipt is news to who knows another one of the source. One of a lower version is, if it is later: the key of the higher version was removed, or somebody
 * made it up.
 */
function isFresher({ version, monoMs }: Receipt, known: Receipt | undefined): boolean {
  return known === undefined || version > known.version || monoMs >= known.monoMs + SAME_MS;
}

/** The peer of a link, as far as ages are concerned. */
export interface AgesPeer {
  readonly nodeId: string;
  /** Whether the peer has a link to that node, and hears of it there. */
  isLinkedTo(nodeId: string): boolean;
}

/** For one link: what the peer is to be told. A receipt goes to nobody who hears of it from the same node as we did. */
export class LinkAges {
  readonly #ages: SourceAges;
  readonly #peer: AgesPeer;
  /** What the peer has of each source, as far as was said on this link. */
  readonly #known = new BoundedMap<string, Receipt>(MAX_KEPT);
  readonly #toTell = new Set<string>();
  #seenOrder = -1;
  #tellMonoMs = Number.NEGATIVE_INFINITY;

  constructor(ages: SourceAges, peer: AgesPeer) {
    this.#ages = ages;
    this.#peer = peer;
  }

  hasWork(time: Time): boolean {
    this.#look(time);
    return this.#toTell.size > 0 && time.monoMs >= this.#tellMonoMs;
  }

  nextDeadlineMs(): number {
    return this.#toTell.size > 0 ? this.#tellMonoMs : NEVER;
  }

  /** `said`: when the frame was made, in the times of its link. */
  next(time: Time, said: VectorTimes): SourceAgesFrame | undefined {
    if (!this.hasWork(time)) return undefined;
    const sources: SourceAgesFrame["sources"][number][] = [];
    for (const source of this.#toTell) {
      if (sources.length === MAX_SOURCES) break;
      this.#toTell.delete(source);
      const row = this.#ages.rows.get(source);
      if (row === undefined || !isFresher(row, this.#known.get(source))) continue;
      this.#known.set(source, row);
      sources.push({ sourceCluster: source, version: row.version, ageMs: Math.max(0, Math.ceil(time.monoMs - row.monoMs)) });
    }
    if (sources.length === 0) return undefined;
    this.#tellMonoMs = time.monoMs + TELL_MS;
    return { kind: "sourceAges", sources, saidMs: said.atMs, asOfMs: said.asOfMs ?? 0 };
  }

  /** The peer told ages that were so `soMonoMs` at the earliest, by our clock. */
  receive({ sources }: SourceAgesFrame, soMonoMs: number, time: Time): void {
    for (const { sourceCluster: source, version, ageMs } of sources.slice(0, MAX_SOURCES)) {
      const receipt = { version, monoMs: soMonoMs - ageMs };
      if (isFresher(receipt, this.#known.get(source))) this.#known.set(source, receipt);
      this.#ages.heard(this.#peer.nodeId, source, receipt, time);
    }
  }

  /** When the link is new everything is told: the peer may have heard of it from nobody. */
  #look(time: Time): void {
    const { rows, order } = this.#ages;
    if (order === this.#seenOrder) return;
    const isNew = this.#seenOrder === -1;
    this.#seenOrder = order;
    for (const [source, row] of isNew ? this.#ages.all(time) : rows)
      if (isFresher(row, this.#known.get(source)) && (isNew || !this.#isHeardElsewhere(row))) this.#toTell.add(source);
  }

  #isHeardElsewhere({ via }: Row): boolean {
    return via !== undefined && (via === this.#peer.nodeId || this.#peer.isLinkedTo(via));
  }
}
