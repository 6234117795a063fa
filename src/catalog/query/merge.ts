/** Reads several cursors as one cursor, in key order. Used for names without a namespace and for several kinds. */

import type { CatalogRecord } from "../record/record.ts";
import type { RecordCursor } from "./ordered-records.ts";

interface CursorHead {
  readonly cursor: RecordCursor;
  record: CatalogRecord;
}

/** Merges cursors over lists that share no records. Cost of a step: O(log n) for n cursors; cost of a seek: one seek of each cursor. */
export class MergeCursor implements RecordCursor {
  readonly #cursors: readonly RecordCursor[];
  // The cursors that are not at their end, in a binary heap ordered by key.
  #heap: CursorHead[] = [];

  constructor(cursors: readonly RecordCursor[]) {
    this.#cursors = cursors;
    this.#fill();
  }

  seek(key: string): void {
    for (const cursor of this.#cursors) cursor.seek(key);
    this.#fill();
  }

  next(): CatalogRecord | undefined {
    const top = this.#heap[0];
    if (top === undefined) return undefined;
    const { record } = top;
    const following = top.cursor.next();
    if (following === undefined) {
      const last = this.#heap.pop();
      if (last !== undefined && last !== top) this.#sink(0, last);
    } else {
      top.record = following;
      this.#sink(0, top);
    }
    return record;
  }

  #fill(): void {
    this.#heap = [];
    for (const cursor of this.#cursors) {
      const record = cursor.next();
      if (record !== undefined) this.#heap.push({ cursor, record });
    }
    // A sorted array is already a valid heap. Sorting is cheap, because there are few cursors compared to the number of records read.
    this.#heap.sort((a, b) => (a.record.key < b.record.key ? -1 : 1));
  }

  #sink(from: number, head: CursorHead): void {
    const heap = this.#heap;
    let place = from;
    for (;;) {
      let child = place * 2 + 1;
      const left = heap[child];
      if (left === undefined) break;
      const right = heap[child + 1];
      let least = left;
      if (right !== undefined && right.record.key < left.record.key) {
        least = right;
        child += 1;
      }
      if (least.record.key > head.record.key) break;
      heap[place] = least;
      place = child;
    }
    heap[place] = head;
  }
}
