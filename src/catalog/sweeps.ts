/**
 * Touches owed to many records at once: something that decides on what is seen of them changed (the life of their origin, its mark, where it is at
 * home). They are done in slices; until then what is seen is partly as before, so no reader is told that it has everything.
 */
import type { Cell, Origin } from "./cell.ts";
import type { Before } from "./past-views.ts";
import { BODY } from "./record.ts";

/** Which records of an origin are to be touched. */
export interface Span {
  /** Those with numbers above this … */
  readonly after: number;
  /** … and up to this. */
  readonly until: number;
  /** Its tombstones too: what they end is decided anew. */
  readonly withEnds: boolean;
  /** What was seen of them before; "seen" unless said otherwise. */
  readonly before?: Before;
}

interface Sweep {
  after: number;
  readonly until: number;
  readonly withEnds: boolean;
  readonly before: Before;
}

/** All entries of an origin, also those that come meanwhile. */
export const ENTRIES: Span = { after: 0, until: Number.POSITIVE_INFINITY, withEnds: false };

export class Sweeps {
  readonly #byOrigin = new Map<Origin, Sweep>();
  readonly #touch: (cell: Cell, before: Before) => void;

  constructor(touch: (cell: Cell, before: Before) => void) {
    this.#touch = touch;
  }

  /** Whether any record is still to be touched. */
  get isOwed(): boolean {
    return this.#byOrigin.size > 0;
  }

  isOwedTo(origin: Origin): boolean {
    return this.#byOrigin.has(origin);
  }

  /** Where one is under way, some records have been touched for it and some have not: all are, from the first on. */
  owe(origin: Origin, span: Span): void {
    if (origin.log.size === 0) return;
    const running = this.#byOrigin.get(origin);
    if (running === undefined) this.#byOrigin.set(origin, { before: "seen", ...span });
    else this.#byOrigin.set(origin, { ...ENTRIES, withEnds: span.withEnds || running.withEnds, before: "unsure" });
  }

  /** Touches at most so many records; returns how many it looked at. */
  step(maxCount: number): number {
    let left = maxCount;
    for (const [origin, sweep] of this.#byOrigin) {
      if (left <= 0) break;
      const cells: Cell[] = [];
      let isDone = true;
      origin.log.forEachSince(sweep.after, (cell, seq) => {
        if (seq > sweep.until) return false;
        isDone = left > 0;
        if (!isDone) return false;
        left -= 1;
        sweep.after = seq;
        cells.push(cell);
        return true;
      });
      for (const cell of cells) if (sweep.withEnds || cell.body === BODY.ENTRY) this.#touch(cell, sweep.before);
      if (isDone) this.#byOrigin.delete(origin);
    }
    return maxCount - left;
  }
}
