/** The keys that the pages of a snapshot in progress have sent, and the revision at which each was read. */
import { firstIndex } from "../../lib/bisect.ts";
import type { ReaderPosition } from "../replica/past-views.ts";

/** Maximum number of key ranges that are remembered: enough for a snapshot of a million entries that change all the time. */
const MAX_STRETCHES = 4096;

interface PageRange extends ReaderPosition {
  /** The last key of the range. The range covers all keys above the last key of the previous range. */
  readonly lastKey: string;
}

export class SentPages {
  readonly #max: number;
  #stretches: PageRange[] = [];

  constructor(maxStretches = MAX_STRETCHES) {
    this.#max = maxStretches;
  }

  /** Records that all keys up to that key were sent as they were seen at that revision. */
  add(lastKey: string, revision: number): void {
    const last = this.#stretches.at(-1);
    if (last?.settled === revision) this.#stretches.pop();
    this.#stretches.push({ lastKey, settled: revision, until: revision });
    if (this.#stretches.length > this.#max) this.#merge();
  }

  /**
   * Returns the reader's position for a key that a page has sent. Undefined above the last page, or if the reader has received every
   * key's changes since then. Changes have been sent up to `from`, and for every key up to `settled`.
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

  /** Merges each pair of neighbouring ranges into one range whose keys were sent at one of the two revisions. */
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
