/** Answers that are kept until a time of their own, the newest of them. */

import { BoundedMap } from "../../lib/bounded-map.ts";

/** Most answers of each kind; the one used longest ago goes first. */
const MAX_KEPT = 1000;

interface Row<T> {
  readonly value: T;
  readonly untilMonoMs: number;
}

export class Kept<T> {
  /** The one used longest ago first. */
  readonly #rows = new BoundedMap<string, Row<T>>(MAX_KEPT);

  /** The last answer, and whether it still counts. */
  find(id: string, monoMs: number): { readonly value: T; readonly isFresh: boolean } | undefined {
    const row = this.#rows.get(id);
    if (row === undefined) return undefined;
    this.#rows.set(id, row);
    return { value: row.value, isFresh: monoMs < row.untilMonoMs };
  }

  set(id: string, value: T, untilMonoMs: number): void {
    this.#rows.set(id, { value, untilMonoMs });
  }
}
