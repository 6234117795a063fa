/** Which keys the pages of a snapshot under way have told of, and as of when. */
import type { Standpoint } from "../replica/past-views.ts";

/** Stretches of keys remembered: enough for a snapshot of a million entries that change all the while. */
const MAX_STRETCHES = 4096;

interface Stretch extends Standpoint {
  /** Its last key: everything above that of the stretch before is in it. */
  readonly lastKey: string;
}

export class ToldPages {
  readonly #max: number;
  #stretches: Stretch[] = [];

  constructor(maxStretches = MAX_STRETCHES) {
    this.#max = maxStretches;
  }

  /** Everything up to that key was told as it was seen then. */
  tell(lastKey: string, revision: number): void {
    const last = this.#stretches.at(-1);
    if (last?.settled === revision) this.#stretches.pop();
    this.#stretches.push({ lastKey, settled: revision, until: revision });
    if (this.#stretches.length > this.#max) this.#merge();
  }

  /**
   * As of when the key was told of; undefined above the last page, or where the reader has been told of every key since. Changes have been
   * told up to `from`, and of every key up to `settled`.
   */
  of(key: string, { from, settled, told }: Pick<Standpoint, "settled" | "told"> & { readonly from: number }): Standpoint | undefined {
    let [low, high] = [0, this.#stretches.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#stretches[middle]?.lastKey ?? "") < key) low = middle + 1;
      else high = middle;
    }
    const stretch = this.#stretches[low];
    if (stretch === undefined || stretch.until < settled) return undefined;
    return from <= stretch.until ? stretch : { settled: stretch.settled, until: from, told };
  }

  /** Two neighbours become one, told at some revision of either. */
  #merge(): void {
    const merged: Stretch[] = [];
    for (let i = 0; i < this.#stretches.length; i += 2) {
      const [first, second] = [this.#stretches[i], this.#stretches[i + 1] ?? this.#stretches[i]];
      if (first !== undefined && second !== undefined)
        merged.push({ lastKey: second.lastKey, settled: first.settled, until: second.until });
    }
    this.#stretches = merged;
  }
}
