/** Keeps tombstones in the order of their arrival, and decides when each may be dropped (semantics.md, Tombstones). */
import { hlcWallMs } from "../../lib/hlc.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import { BODY } from "../record/record.ts";
import type { StoredRecord } from "../record/stored-record.ts";
import type { LostOrigins } from "./lost-origins.ts";
import { endsBeforeHlc, endsEarlierGeneration, isNarrowing } from "./view.ts";

/** The position of a tombstone in the order of arrival. If the tombstone's key is put again, the slot remains until compaction. */
interface TombstoneSlot {
  readonly stored: StoredRecord;
  readonly seq: number;
  readonly addedMonoMs: number;
}

export interface CollectBounds {
  readonly liveCount: number;
  /** Maximum number of slots to examine in one call. */
  readonly maxCount: number;
  /** With `count`, tombstones are not dropped because of their age, but only when there are too many. */
  readonly by: "age" | "count";
}

/** Compaction is not worthwhile with fewer slots. */
const SPARE_SLOTS = 1024;

export interface TombstonesOptions {
  /** The id of this node. */
  readonly nodeId: string;
  readonly tombstoneTtlMs: number;
  /** Number of tombstones that are kept even if there are fewer live records. */
  readonly minTombstones: number;
}

export class Tombstones {
  readonly #options: TombstonesOptions;
  #slots: TombstoneSlot[] = [];
  #first = 0;
  readonly #lost: LostOrigins;
  /** Number of consecutive tombstones that were kept for lost origins while there was no room. */
  #keptInARow = 0;
  /** Number of tombstones that are stored. */
  count = 0;

  constructor(options: TombstonesOptions, lost: LostOrigins) {
    this.#options = options;
    this.#lost = lost;
  }

  /** Number of slots, including slots of keys that were put again. Memory use is proportional to this number. */
  get slots(): number {
    return this.#slots.length;
  }

  add(stored: StoredRecord, time: Time): void {
    this.count += 1;
    this.#slots.push({ stored, seq: stored.seq, addedMonoMs: time.monoMs });
    // If keys are added and removed, they leave slots after a young tombstone, and these slots would remain until that tombstone's ttl ends.
    if (this.#slots.length - this.#first > 2 * this.count + SPARE_SLOTS) this.#compact((slot) => !isStale(slot));
  }

  #compact(isKept: (slot: TombstoneSlot) => boolean): void {
    this.#slots = this.#slots.slice(this.#first).filter(isKept);
    this.#first = 0;
  }

  /** Time by which `collect` must be called next. NEVER if there are no tombstones. */
  nextCollectMonoMs(): number {
    const slot = this.#slots[this.#first];
    return slot === undefined ? NEVER : slot.addedMonoMs + this.#options.tombstoneTtlMs;
  }

  /**
   * Passes tombstones to `drop`, oldest first, if they are older than their ttl or exceed the number max(minTombstones, live records). If `drop`
   * returns false, a later call tries the tombstone again. Each call examines at most `maxCount` slots. A tombstone is kept if it hides an older
   * record of another origin. While there is room, a tombstone with a stamp in the future is also kept, because a node that puts its key again must
   * know that stamp. While an origin is lost, all tombstones are kept. If there is no room, only tombstones that may have ended an entry of a lost
   * origin are kept. If no other tombstone can be dropped, a mark replaces these tombstones.
   */
  collect(time: Time, bounds: CollectBounds, drop: (stored: StoredRecord) => boolean): void {
    const limit = Math.max(this.#options.minTombstones, bounds.liveCount);
    const most = Math.min(bounds.maxCount, this.#slots.length - this.#first);
    for (let n = 0; n < most; n++) {
      const slot = this.#slots[this.#first];
      if (slot === undefined) break;
      const { stored, seq } = slot;
      const isGone = isStale(slot);
      const isOld = bounds.by === "age" && time.monoMs - slot.addedMonoMs >= this.#options.tombstoneTtlMs;
      if (!isGone && this.count <= limit && !isOld) break;
      this.#first += 1;
      if (isGone) continue;
      const isAhead = this.count <= limit && hlcWallMs(endsBeforeHlc(stored)) > time.wallMs;
      if (isAhead || isHiding(stored) || this.#isHeld(stored, limit)) this.#slots.push({ stored, seq, addedMonoMs: time.monoMs });
      else if (drop(stored)) this.#keptInARow = 0;
      else this.#slots.push(slot);
    }
    if (this.#first > SPARE_SLOTS && this.#first * 2 > this.#slots.length) this.#compact(() => true);
  }

  /** Whether the tombstone must be kept because of lost origins. */
  #isHeld(stored: StoredRecord, limit: number): boolean {
    const endedHlc = endsBeforeHlc(stored);
    if (!this.#lost.isHolding || endedHlc === 0) return false;
    if (this.#givesWay(stored, endedHlc)) return false;
    const isCrowded = this.count > limit;
    // Tombstones that ended no record of a lost origin are dropped first, before a mark hides all records of lost origins.
    if (isCrowded && !this.#lost.mayNeed(stored.key)) return false;
    this.#keptInARow = isCrowded ? this.#keptInARow + 1 : 0;
    if (this.#keptInARow <= this.count) return true;
    this.#lost.markAll();
    return false;
  }

  /**
   * Whether this tombstone is redundant, because another record of the key that is kept carries an unregister from another origin. This node's own
   * tombstone is kept, because the node's next record of the key continues from it. Without this exception, each of two nodes could drop its own
   * tombstone in favour of the other's, and both would forget the unregister.
   */
  #givesWay(stored: StoredRecord, endedHlc: number): boolean {
    if (stored.body !== BODY.EXPIRED || stored.origin.nodeId === this.#options.nodeId) return false;
    const others = endsBeside(stored, endedHlc);
    this.#lost.handOn(stored, others);
    return others.length > 0;
  }
}

/** Whether the stored record has changed since its slot was added. */
function isStale({ stored, seq }: TombstoneSlot): boolean {
  return stored.seq !== seq || stored.body === BODY.ENTRY;
}

/**
 * Returns the newest unregister that the successor of `before` must carry, as long as the key has a record. The successor may be the only record that
 * other nodes ever receive, and a stamp does not show the age of the unregister.
 */
export function carriedHlc(before: StoredRecord | undefined): number | undefined {
  return before === undefined ? undefined : endsBeforeHlc(before) || undefined;
}

/**
 * Returns the newest unregister that a tombstone of this node must carry: the newest among the record `before` and all records stored for the key.
 * The tombstone may reach another node before those records do, and that node would otherwise show again the entries that they hide. Tombstones that
 * only narrow a scope are ignored.
 */
export function knownEndHlc(before: StoredRecord | undefined, records: readonly StoredRecord[]): number | undefined {
  let newest = carriedHlc(before) ?? 0;
  for (const record of records) if (!isNarrowing(record)) newest = Math.max(newest, endsBeforeHlc(record));
  return newest || undefined;
}

/** Returns the records of the key whose unregisters keep this record hidden. */
export function endersOf({ body, hlc, peers }: StoredRecord): readonly StoredRecord[] {
  return body === BODY.ENTRY ? (peers ?? []).filter((peer) => endsBeforeHlc(peer) > hlc) : [];
}

/** Returns the other records of the key that permanently hide records with a stamp before `hlc`. Tombstones of a disproved origin are ignored. */
export function endsBeside(stored: StoredRecord, hlc: number): readonly StoredRecord[] {
  const ends = (peer: StoredRecord) => endsBeforeHlc(peer) >= hlc && !isNarrowing(peer) && peer.origin.isDisproved !== true;
  return (stored.peers ?? []).filter((peer) => peer !== stored && ends(peer));
}

function isHiding(record: StoredRecord): boolean {
  return record.peers !== undefined && hiddenBy(record).length > 0;
}

/** Returns the entries that this record hides, either through its unregister or because it belongs to a later generation of their node. */
export function hiddenBy(record: StoredRecord): readonly StoredRecord[] {
  const { peers } = record;
  if (peers === undefined) return [];
  const endedHlc = endsBeforeHlc(record);
  return peers.filter((stored) => stored.body === BODY.ENTRY && (stored.hlc < endedHlc || endsEarlierGeneration(record, stored)));
}
