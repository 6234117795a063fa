/** A min-heap of deadlines with small integer ids: leases, retries, cache expiry. */
import { assert } from "./errors.ts";
import { NEVER } from "./machine.ts";

const START_CAPACITY = 16;
const ABSENT = -1;

/**
 * Deadlines by id, earliest first. The order of equal deadlines is deterministic, but not guaranteed. Ids are small integers that the caller reuses:
 * the heap uses 16 B of memory for each id up to the highest one. Add, move and remove cost O(log n).
 */
export class DeadlineHeap {
  // Parallel arrays in heap order, and the position of each id in the heap.
  #deadlinesMs = new Float64Array(START_CAPACITY);
  #ids = new Int32Array(START_CAPACITY);
  #places = new Int32Array(START_CAPACITY).fill(ABSENT);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  has(id: number): boolean {
    return this.#place(id) !== ABSENT;
  }

  /** The earliest deadline, or NEVER when the heap is empty. */
  nextDeadlineMs(): number {
    return this.#size === 0 ? NEVER : this.#deadline(0);
  }

  /** The id of the earliest deadline, or undefined when the heap is empty. */
  nextId(): number | undefined {
    return this.#size === 0 ? undefined : this.#ids[0];
  }

  /** Adds the id, or moves it if it is already in the heap, with this deadline. */
  set(id: number, deadlineMs: number): void {
    assert(
      Number.isInteger(id) && id >= 0 && !Number.isNaN(deadlineMs),
      "the heap id is not a non-negative integer, or the deadline is not a number",
      {
        id,
        deadlineMs,
      },
    );
    const place = this.#place(id);
    if (place === ABSENT) {
      this.#grow(id);
      this.#size += 1;
      this.#up(this.#size - 1, id, deadlineMs);
    } else if (deadlineMs < this.#deadline(place)) {
      this.#up(place, id, deadlineMs);
    } else {
      this.#down(place, id, deadlineMs);
    }
  }

  /** Removes the id if it is in the heap. */
  remove(id: number): void {
    const place = this.#place(id);
    if (place === ABSENT) return;
    this.#places[id] = ABSENT;
    this.#size -= 1;
    if (place === this.#size) return;
    const lastId = this.#ids[this.#size] ?? 0;
    const lastMs = this.#deadline(this.#size);
    if (place > 0 && lastMs < this.#deadline((place - 1) >>> 1)) this.#up(place, lastId, lastMs);
    else this.#down(place, lastId, lastMs);
  }

  #place(id: number): number {
    return this.#places[id] ?? ABSENT;
  }

  #deadline(place: number): number {
    return this.#deadlinesMs[place] ?? NEVER;
  }

  #grow(id: number): void {
    if (this.#size === this.#ids.length) {
      this.#deadlinesMs = enlarged(this.#deadlinesMs, new Float64Array(this.#size * 2));
      this.#ids = enlarged(this.#ids, new Int32Array(this.#size * 2));
    }
    if (id < this.#places.length) return;
    const places = new Int32Array(Math.max(id + 1, this.#places.length * 2));
    places.fill(ABSENT, this.#places.length);
    this.#places = enlarged(this.#places, places);
  }

  #write(place: number, id: number, deadlineMs: number): void {
    this.#deadlinesMs[place] = deadlineMs;
    this.#ids[place] = id;
    this.#places[id] = place;
  }

  #up(from: number, id: number, deadlineMs: number): void {
    let place = from;
    while (place > 0) {
      const parent = (place - 1) >>> 1;
      const parentMs = this.#deadline(parent);
      if (parentMs <= deadlineMs) break;
      this.#write(place, this.#ids[parent] ?? 0, parentMs);
      place = parent;
    }
    this.#write(place, id, deadlineMs);
  }

  #down(from: number, id: number, deadlineMs: number): void {
    let place = from;
    for (;;) {
      let child = place * 2 + 1;
      if (child >= this.#size) break;
      if (child + 1 < this.#size && this.#deadline(child + 1) < this.#deadline(child)) child += 1;
      const childMs = this.#deadline(child);
      if (childMs >= deadlineMs) break;
      this.#write(place, this.#ids[child] ?? 0, childMs);
      place = child;
    }
    this.#write(place, id, deadlineMs);
  }
}

function enlarged<T extends Float64Array | Int32Array>(from: T, to: T): T {
  to.set(from);
  return to;
}
