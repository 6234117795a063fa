/** The keys that a snapshot in progress has sent in pages, and the revision at which each was read. */
import { firstIndex } from "../../lib/bisect.ts";
import type { ReaderPosition } from "../replica/past-views.ts";

/** Maximum number of key ranges that are remembered: enough for a snapshot of a million entries that change all the time. */
const MAX_STRETCHES = 4096;

interface PageRange extends ReaderPosition {
  /** The last key of the range. The range starts after the last key of the previous range. */
  readonly lastKey: string;
}

export class SentPages {
  readonly #max: number;
  #stretches: PageRange[] = [];

  constructor(maxStretches = MAX_STRETCHES) {
    this.#max = maxStretches;
  }

  /** Records that all keys up to that key were sent as they were visible at that revision. */
  add(lastKey: string, revision: number): void {
    const last = this.#stretches.at(-1);
    if (last?.settled === revision) this.#stretches.pop();
    this.#stretches.push({ lastKey, settled: revision, until: revision });
    if (this.#stretches.length > this.#max) this.#merge();
  }

  /**
   * Returns the reader's position for a key that a page has sent. Undefined for keys after the last page, and if the reader has received every key's
   * changes since then. Changes have been sent up to `from`, and completely for every key up to `settled`.
   */
  of(
    key: string,
    { from, settled, reads }: Pick<ReaderPosition, "settled" | "reads"> & { readonly from: number },
  ): ReaderPosition | undefined {
    const stretches = this.#stretches;
    const stretch = stretches[firstIndex(stretches.length, (index) => (stretches[index]?.lastKey ?? "") >= key)];
    if (stretch === undefined || stretch.until < settled) return undefined;
    return from <= stretch.until ? stretch : { settled: stretch.settled, until: from, reads };
  }

  /** Merges each pair of neighbouring ranges. The keys of a merged range were sent at one of two revisions. */
  #merge(): void {
    const merged: PageRange[] = [];
    for (let i = 0; i < this.#stretches.length; i += 2) {
      const [first, second] = [this.#stretches[i], this.#stretches[i + 1] ?? this.#stretches[i]];
      if (first !== undefined && second !== undefined)
        merged.push({ lastKey: second.lastKey, settled: first.settled, until: second.until });
    }
    this.#stretches = merged;
  }
}
