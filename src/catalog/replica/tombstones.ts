/** Tombstones in the order they came, and when each may go (semantics.md, Tombstones). */
import { hlcWallMs } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import { BODY } from "../record/record.ts";
import type { StoredRecord } from "../record/stored-record.ts";
import type { LostOrigins } from "./lost-origins.ts";
import { endsBeforeHlc, endsEarlierGeneration, isNarrowing } from "./view.ts";

interface Grave {
  readonly stored: StoredRecord;
  readonly seq: number;
  readonly dugMonoMs: number;
}

export interface CollectBounds {
  readonly liveCount: number;
  /** Graves looked at. */
  readonly maxCount: number;
  /** By count alone, old tombstones are kept as long as there is room. */
  readonly by: "age" | "count";
}

/** Graves that are not worth compacting for. */
const SPARE_GRAVES = 1024;

export interface TombstonesOptions {
  /** This node. */
  readonly nodeId: string;
  readonly tombstoneTtlMs: number;
  /** Tombstones kept even when there are fewer live records than that. */
  readonly minTombstones: number;
}

export class Tombstones {
  readonly #options: TombstonesOptions;
  #graves: Grave[] = [];
  #first = 0;
  readonly #lost: LostOrigins;
  /** Tombstones kept for the lost one after the other, while there was no room. */
  #keptInARow = 0;
  /** Tombstones held. */
  count = 0;

  constructor(options: TombstonesOptions, lost: LostOrigins) {
    this.#options = options;
    this.#lost = lost;
  }

  /** Graves kept, those of keys that have come back included: what memory follows. */
  get slots(): number {
    return this.#graves.length;
  }

  add(stored: StoredRecord, time: Time): void {
    this.count += 1;
    this.#graves.push({ stored, seq: stored.seq, dugMonoMs: time.monoMs });
    // Keys that come and go leave graves behind a young one that nothing takes away before its ttl.
    if (this.#graves.length - this.#first > 2 * this.count + SPARE_GRAVES) this.#compact((grave) => !isStale(grave));
  }

  #compact(isKept: (grave: Grave) => boolean): void {
    this.#graves = this.#graves.slice(this.#first).filter(isKept);
    this.#first = 0;
  }

  /** When `collect` has something to do at the latest. */
  nextCollectMonoMs(): number | undefined {
    const grave = this.#graves[this.#first];
    return grave === undefined ? undefined : grave.dugMonoMs + this.#options.tombstoneTtlMs;
  }

  /**
   * Gives to `drop` the tombstones older than their ttl, or above max(minTombstones, live records), oldest first; its false
   * says that one must wait. Looks at no more than `maxCount`. One that hides an older record of another origin is kept, and, where
   * there is room, one whose stamp is not past: who puts its key again must know it, as somebody who is away may come back with it. So
   * is any while an origin is lost. Without room those are kept of which it may have had an entry; a mark replaces them when nothing else
   * is left to go.
   */
  collect(time: Time, bounds: CollectBounds, drop: (stored: StoredRecord) => boolean): void {
    const limit = Math.max(this.#options.minTombstones, bounds.liveCount);
    const most = Math.min(bounds.maxCount, this.#graves.length - this.#first);
    for (let n = 0; n < most; n++) {
      const grave = this.#graves[this.#first];
      if (grave === undefined) break;
      const { stored, seq } = grave;
      const isGone = isStale(grave);
      const isOld = bounds.by === "age" && time.monoMs - grave.dugMonoMs >= this.#options.tombstoneTtlMs;
      if (!isGone && this.count <= limit && !isOld) break;
      this.#first += 1;
      if (isGone) continue;
      const isAhead = this.count <= limit && hlcWallMs(endsBeforeHlc(stored)) > time.wallMs;
      if (isAhead || isHiding(stored) || this.#isHeld(stored, limit)) this.#graves.push({ stored, seq, dugMonoMs: time.monoMs });
      else if (drop(stored)) this.#keptInARow = 0;
      else this.#graves.push(grave);
    }
    if (this.#first > SPARE_GRAVES && this.#first * 2 > this.#graves.length) this.#compact(() => true);
  }

  /** Whether it is kept for the lost. */
  #isHeld(stored: StoredRecord, limit: number): boolean {
    const endedHlc = endsBeforeHlc(stored);
    if (!this.#lost.isHolding || endedHlc === 0) return false;
    if (this.#givesWay(stored, endedHlc)) return false;
    const isCrowded = this.count > limit;
    // Before a mark has to hide all that they wrote, those go that ended nothing of it.
    if (isCrowded && !this.#lost.mayNeed(stored.key)) return false;
    this.#keptInARow = isCrowded ? this.#keptInARow + 1 : 0;
    if (this.#keptInARow <= this.count) return true;
    this.#lost.markAll();
    return false;
  }

  /**
   * Whether it says again what another origin unregistered, and a record stays that says so too: of two there would be no room. This node's own stays, for its
   * next record of the key goes on from it: two nodes that each gave way to the other's would both forget it.
   */
  #givesWay(stored: StoredRecord, endedHlc: number): boolean {
    if (stored.body !== BODY.EXPIRED || stored.origin.nodeId === this.#options.nodeId) return false;
    const others = endsBeside(stored, endedHlc);
    this.#lost.handOn(stored, others);
    return others.length > 0;
  }
}

/** Whether the stored record says something else by now. */
function isStale({ stored, seq }: Grave): boolean {
  return stored.seq !== seq || stored.body === BODY.ENTRY;
}

/**
 * What the record that takes the place of `before` must say of what its origin unregistered: all of it, for as long as the key has a record. It
 * may be the only one that anybody is ever told of, and how old it is no stamp can say.
 */
export function carriedHlc(before: StoredRecord | undefined): number | undefined {
  return before === undefined ? undefined : endsBeforeHlc(before) || undefined;
}

/**
 * What an end of this node's own says of what was unregistered: what the record `before` carries, and all that is held of the key. It may
 * come before those words to a third node, which would see again what they hide. Narrower readers are no such word.
 */
export function knownEndHlc(before: StoredRecord | undefined, records: readonly StoredRecord[]): number | undefined {
  let newest = carriedHlc(before) ?? 0;
  for (const record of records) if (!isNarrowing(record)) newest = Math.max(newest, endsBeforeHlc(record));
  return newest || undefined;
}

/** Records of the key that keep this one hidden by what their origins unregistered. */
export function endersOf({ body, hlc, peers }: StoredRecord): readonly StoredRecord[] {
  return body === BODY.ENTRY ? (peers ?? []).filter((peer) => endsBeforeHlc(peer) > hlc) : [];
}

/** Other records of the key than this one that keep hidden for good what was stamped before `hlc`. What is disproved ended nothing. */
export function endsBeside(stored: StoredRecord, hlc: number): readonly StoredRecord[] {
  const ends = (peer: StoredRecord) => endsBeforeHlc(peer) >= hlc && !isNarrowing(peer) && peer.origin.isDisproved !== true;
  return (stored.peers ?? []).filter((peer) => peer !== stored && ends(peer));
}

function isHiding(record: StoredRecord): boolean {
  return record.peers !== undefined && hiddenBy(record).length > 0;
}

/** Entries that this record keeps from being seen by what its origin unregistered, or since it is of a later generation of their node. */
export function hiddenBy(record: StoredRecord): readonly StoredRecord[] {
  const { peers } = record;
  if (peers === undefined) return [];
  const endedHlc = endsBeforeHlc(record);
  return peers.filter((stored) => stored.body === BODY.ENTRY && (stored.hlc < endedHlc || endsEarlierGeneration(record, stored)));
}
