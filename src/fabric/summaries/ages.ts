/** How long ago each source of summaries was last heard of, as links tell it (docs/design/summaries.md, In a region). */
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Said, SourceAgesFrame } from "../wire/messages.ts";

/** Sources in one frame, and remembered for one link. */
const MAX_SOURCES = 256;
/** Time between two frames of ages on a link, at least. */
const TELL_MS = 1000;
/** A receipt that is fresher by less, of the same beacon, is no news. */
const SAME_MS = 500;
/** An age whose beacon is not held here yet is tried again after so long, and dropped after so long. */
const RETRY_MS = 250;
const PENDING_MS = 60_000;

/** What the region knows of when it last had a beacon of a source. */
export interface SourceAge {
  readonly source: string;
  /** Version of that beacon. */
  readonly version: number;
  readonly ageMs: number;
}

/** The receipts of beacons at this node, which `src/summary/held/` keeps. */
export interface SourceReceipts {
  /** Counts the receipts that moved. */
  readonly receiptsMoved: number;
  /** Of all sources with a receipt, at most 256. */
  ages(time: Time): Iterable<SourceAge>;
  /**
   * Another node of the region had that beacon `ageMs` ago. A receipt only becomes fresher by it. Returns false when that beacon, or a later one, is not
   * held here, or not verified; then the same is said again for a while.
   */
  heardAge(source: string, version: number, ageMs: number, time: Time): boolean;
}

interface Receipt {
  readonly version: number;
  readonly monoMs: number;
}

interface Row extends Receipt {
  /** The node that told of it. Undefined when this node had the beacon itself. */
  readonly via: string | undefined;
}

interface Pending extends Receipt {
  readonly nodeId: string;
  readonly sinceMonoMs: number;
}

/** For all links of a node: the receipts as they were last looked at, and ages that wait for their beacon. */
export class SourceAges {
  readonly #receipts: SourceReceipts;
  readonly rows = new Map<string, Row>();
  readonly #pending = new Map<string, Pending>();
  /** Who has just made a receipt fresher. */
  readonly #via = new Map<string, string>();
  #seenMoved = -1;
  #retryMonoMs = NEVER;
  /** Counts the rows that changed. */
  order = 0;

  constructor(receipts: SourceReceipts) {
    this.#receipts = receipts;
  }

  /** HOT: after every input. */
  tick(time: Time): void {
    if (time.monoMs >= this.#retryMonoMs) this.#retry(time);
    if (this.#receipts.receiptsMoved !== this.#seenMoved) this.#read(time);
  }

  nextDeadlineMs(): number {
    return this.#receipts.receiptsMoved === this.#seenMoved ? this.#retryMonoMs : 0;
  }

  /** A node of the region tells of a receipt; `monoMs` is when it was at the earliest, by our clock. */
  heard(nodeId: string, source: string, { version, monoMs }: Receipt, time: Time): void {
    const moved = this.#receipts.receiptsMoved;
    if (!this.#receipts.heardAge(source, version, time.monoMs - monoMs, time)) {
      const before = this.#pending.get(source);
      const isNews = before === undefined || version > before.version || (version === before.version && monoMs > before.monoMs);
      if (!isNews || (before === undefined && this.#pending.size >= MAX_SOURCES)) return;
      this.#pending.set(source, { version, monoMs, nodeId, sinceMonoMs: before?.version === version ? before.sinceMonoMs : time.monoMs });
      this.#retryMonoMs = Math.min(this.#retryMonoMs, time.monoMs + RETRY_MS);
    } else if (this.#receipts.receiptsMoved !== moved) this.#via.set(source, nodeId);
  }

  /** The beacons may have come meanwhile, by another way. */
  #retry(time: Time): void {
    const pending = [...this.#pending];
    this.#pending.clear();
    this.#retryMonoMs = NEVER;
    for (const [source, { nodeId, sinceMonoMs, ...receipt }] of pending) {
      if (time.monoMs - sinceMonoMs >= PENDING_MS) continue;
      this.heard(nodeId, source, receipt, time);
      const again = this.#pending.get(source);
      if (again !== undefined) this.#pending.set(source, { ...again, sinceMonoMs });
    }
  }

  #read(time: Time): void {
    this.#seenMoved = this.#receipts.receiptsMoved;
    const gone = new Set(this.rows.keys());
    for (const { source, version, ageMs } of this.#receipts.ages(time)) {
      gone.delete(source);
      const monoMs = time.monoMs - ageMs;
      if (!isFresher({ version, monoMs }, this.rows.get(source))) continue;
      this.rows.set(source, { version, monoMs, via: this.#via.get(source) });
      this.order += 1;
    }
    for (const source of gone) this.rows.delete(source);
    this.#via.clear();
  }
}

/** Whether a receipt is news to who knows another one of the source. */
function isFresher({ version, monoMs }: Receipt, known: Receipt | undefined): boolean {
  if (known === undefined || version > known.version) return true;
  return version === known.version && monoMs >= known.monoMs + SAME_MS;
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
  readonly #known = new Map<string, Receipt>();
  readonly #toTell = new Set<string>();
  #seenOrder = -1;
  #tellMonoMs = Number.NEGATIVE_INFINITY;

  constructor(ages: SourceAges, peer: AgesPeer) {
    this.#ages = ages;
    this.#peer = peer;
  }

  hasWork(time: Time): boolean {
    this.#look();
    return this.#toTell.size > 0 && time.monoMs >= this.#tellMonoMs;
  }

  nextDeadlineMs(): number {
    return this.#toTell.size > 0 ? this.#tellMonoMs : NEVER;
  }

  /** `said`: when the frame was made, in the times of its link. */
  next(time: Time, said: Said): SourceAgesFrame | undefined {
    if (!this.hasWork(time)) return undefined;
    const sources: SourceAgesFrame["sources"][number][] = [];
    for (const source of this.#toTell) {
      if (sources.length === MAX_SOURCES) break;
      this.#toTell.delete(source);
      const row = this.#ages.rows.get(source);
      if (row === undefined || !isFresher(row, this.#known.get(source))) continue;
      this.#note(source, row);
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
      if (isFresher(receipt, this.#known.get(source))) this.#note(source, receipt);
      this.#ages.heard(this.#peer.nodeId, source, receipt, time);
    }
  }

  #note(source: string, receipt: Receipt): void {
    this.#known.delete(source);
    this.#known.set(source, receipt);
    const [oldest] = this.#known.keys();
    if (this.#known.size > 2 * MAX_SOURCES && oldest !== undefined) this.#known.delete(oldest);
  }

  /** When the link is new everything is told: the peer may have heard of it from nobody. */
  #look(): void {
    const { rows, order } = this.#ages;
    if (order === this.#seenOrder) return;
    const isNew = this.#seenOrder === -1;
    this.#seenOrder = order;
    for (const [source, row] of rows)
      if (isFresher(row, this.#known.get(source)) && (isNew || !this.#isHeardElsewhere(row))) this.#toTell.add(source);
  }

  #isHeardElsewhere({ via }: Row): boolean {
    return via !== undefined && (via === this.#peer.nodeId || this.#peer.isLinkedTo(via));
  }
}
