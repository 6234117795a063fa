/** Tombstones in the order they came, and when each may go (semantics.md, Tombstones). */
import { hlcWallMs } from "../lib/hlc.ts";
import type { Time } from "../lib/machine.ts";
import type { Cell } from "./cell.ts";
import { BODY } from "./record.ts";
import { endsBeforeHlc } from "./view.ts";

interface Grave {
  readonly cell: Cell;
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

export interface GraveyardOptions {
  readonly tombstoneTtlMs: number;
  /** Tombstones kept even when there are fewer live records than that. */
  readonly minTombstones: number;
}

export class Graveyard {
  readonly #options: GraveyardOptions;
  #graves: Grave[] = [];
  #first = 0;
  /** Tombstones held. */
  count = 0;

  constructor(options: GraveyardOptions) {
    this.#options = options;
  }

  /** Graves kept, those of keys that have come back included: what memory follows. */
  get slots(): number {
    return this.#graves.length;
  }

  /** What the record with stamp `hlc` that takes the place of `before` says of what its origin unregistered. */
  carriedHlc(before: Cell | undefined, hlc: number): number | undefined {
    return before === undefined ? undefined : carriedHlc(before, hlc, this.#options.tombstoneTtlMs);
  }

  bury(cell: Cell, time: Time): void {
    this.count += 1;
    this.#graves.push({ cell, seq: cell.seq, dugMonoMs: time.monoMs });
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
   * there is room, one whose stamp is not past: who puts its key again must know it, as somebody who is away may come back with it.
   */
  collect(time: Time, bounds: CollectBounds, drop: (cell: Cell) => boolean): void {
    const limit = Math.max(this.#options.minTombstones, bounds.liveCount);
    const most = Math.min(bounds.maxCount, this.#graves.length - this.#first);
    for (let n = 0; n < most; n++) {
      const grave = this.#graves[this.#first];
      if (grave === undefined) break;
      const { cell, seq } = grave;
      const isGone = isStale(grave);
      const isOld = bounds.by === "age" && time.monoMs - grave.dugMonoMs >= this.#options.tombstoneTtlMs;
      if (!isGone && this.count <= limit && !isOld) break;
      this.#first += 1;
      if (isGone) continue;
      const isAhead = this.count <= limit && hlcWallMs(endsBeforeHlc(cell)) > time.wallMs;
      if (isAhead || hiddenBy(cell).length > 0) this.#graves.push({ cell, seq, dugMonoMs: time.monoMs });
      else if (!drop(cell)) this.#graves.push(grave);
    }
    if (this.#first > SPARE_GRAVES && this.#first * 2 > this.#graves.length) this.#compact(() => true);
  }
}

/**
 * What a record that takes the place of `before` must say of what its origin unregistered: forgotten only where a tombstone
 * would be, so that a record which comes late stays hidden.
 */
function carriedHlc(before: Cell, hlc: number, ttlMs: number): number | undefined {
  const endedHlc = endsBeforeHlc(before);
  if (endedHlc === 0) return undefined;
  return hlcWallMs(hlc) - hlcWallMs(endedHlc) > ttlMs && hiddenBy(before).length === 0 ? undefined : endedHlc;
}

/** Whether the cell says something else by now. */
function isStale({ cell, seq }: Grave): boolean {
  return cell.seq !== seq || cell.body === BODY.ENTRY;
}

/** Entries that this record keeps from being seen by what its origin unregistered. */
export function hiddenBy(record: Cell): readonly Cell[] {
  const endedHlc = endsBeforeHlc(record);
  return endedHlc === 0 ? [] : (record.peers ?? []).filter((cell) => cell.body === BODY.ENTRY && cell.hlc < endedHlc);
}
