/** Tombstones in the order they came, and when each may go (semantics.md, Tombstones). */
import type { Time } from "../lib/machine.ts";
import type { Cell } from "./cell.ts";
import { BODY } from "./record.ts";

interface Grave {
  readonly cell: Cell;
  readonly seq: number;
  readonly dugMonoMs: number;
}

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

  bury(cell: Cell, time: Time): void {
    this.count += 1;
    this.#graves.push({ cell, seq: cell.seq, dugMonoMs: time.monoMs });
  }

  /** When `collect` has something to do at the latest. */
  nextCollectMonoMs(): number | undefined {
    const grave = this.#graves[this.#first];
    return grave === undefined ? undefined : grave.dugMonoMs + this.#options.tombstoneTtlMs;
  }

  /**
   * Gives to `drop` the tombstones older than their ttl, or above max(minTombstones, live records), oldest first. Looks at
   * no more than `maxCount`. One that hides an older record of another origin is kept.
   */
  collect(time: Time, bounds: { readonly liveCount: number; readonly maxCount: number }, drop: (cell: Cell) => void): void {
    const limit = Math.max(this.#options.minTombstones, bounds.liveCount);
    for (let n = 0; n < bounds.maxCount; n++) {
      const grave = this.#graves[this.#first];
      if (grave === undefined) break;
      const { cell, seq } = grave;
      const isStale = cell.seq !== seq || cell.body === BODY.ENTRY;
      if (!isStale && this.count <= limit && time.monoMs - grave.dugMonoMs < this.#options.tombstoneTtlMs) break;
      this.#first += 1;
      if (isStale) continue;
      if (hidesOlder(cell)) this.#graves.push({ cell, seq, dugMonoMs: time.monoMs });
      else drop(cell);
    }
    if (this.#first > 1024 && this.#first * 2 > this.#graves.length) {
      this.#graves = this.#graves.slice(this.#first);
      this.#first = 0;
    }
  }
}

function hidesOlder(tombstone: Cell): boolean {
  if (tombstone.body !== BODY.UNREGISTERED) return false;
  return (tombstone.peers ?? []).some((cell) => cell.body === BODY.ENTRY && cell.hlc < tombstone.hlc);
}
