/**
 * Records in the order of their last change: by this node's revision, or by their origin's seq. The log is append-only. A slot becomes
 * stale when its record changes again, and stale slots are dropped chunk by chunk. The cost of reading the changes since n is therefore
 * the number of changes, not the size of the catalog (docs/architecture.md, The idea).
 */

/** Number of slots in a chunk. This number also limits the work of one append or retire. */
const CHUNK_SLOTS = 2048;

interface LogChunk<T> {
  /**
   * The numbers of the slots, each minus `base`. They ascend over the whole log. A full chunk is packed, which saves 4 bytes for each record of each
   * log.
   */
  orders: number[] | Uint32Array;
  /** 0 if the chunk is not packed. */
  base: number;
  records: T[];
  /** Number of slots that are not stale. */
  live: number;
}

export class ChangeLog<T> {
  readonly #orderOf: (record: T) => number;
  readonly #chunks: LogChunk<T>[] = [];
  #live = 0;
  #addedCount = 0;

  /** `orderOf` returns the record's current number. A slot with another number is stale. */
  constructor(orderOf: (record: T) => number) {
    this.#orderOf = orderOf;
  }

  /** Number of records, not including stale slots. */
  get size(): number {
    return this.#live;
  }

  /** Number of slots, including stale slots. Memory use is proportional to this number. */
  get slots(): number {
    let slots = 0;
    for (const chunk of this.#chunks) slots += chunk.orders.length;
    return slots;
  }

  /** Number of additions so far. A caller that counts its own additions can detect additions made by others. */
  get addedCount(): number {
    return this.#addedCount;
  }

  /** An upper bound for all numbers in the log. */
  get lastOrder(): number {
    const last = this.#chunks.at(-1);
    return last === undefined ? 0 : lastOf(last);
  }

  /** Appends a record under a number that is higher than all earlier ones. The record's own number must already be equal to `order`. */
  append(order: number, record: T): void {
    let last = this.#chunks.at(-1);
    if (last !== undefined && last.orders.length >= CHUNK_SLOTS && last.live < last.orders.length / 2) {
      // The chunk is full of stale slots, and a later `retire` may never shorten it.
      this.#compact(this.#chunks.length - 1);
      last = this.#chunks.at(-1);
    }
    if (last === undefined || last.orders.length >= CHUNK_SLOTS) {
      if (last !== undefined) pack(last);
      last = { orders: [], base: 0, records: [], live: 0 };
      this.#chunks.push(last);
    }
    unpacked(last).push(order);
    last.records.push(record);
    last.live += 1;
    this.#live += 1;
    this.#addedCount += 1;
  }

  /**
   * Adds a record whose number may be between others, for example when a transfer repairs an old gap. Cost: O(chunk) if the number is not the
   * highest.
   */
  insert(order: number, record: T): void {
    const last = this.#chunks.at(-1);
    if (last === undefined || order > lastOf(last)) {
      this.append(order, record);
      return;
    }
    const index = Math.min(this.#chunkAfter(order - 1), this.#chunks.length - 1);
    const chunk = this.#chunks[index] ?? last;
    const orders = unpacked(chunk);
    const at = upperBound(orders, order);
    orders.splice(at, 0, order);
    chunk.records.splice(at, 0, record);
    chunk.live += 1;
    this.#live += 1;
    this.#addedCount += 1;
    if (chunk.orders.length > CHUNK_SLOTS * 2) {
      this.#compact(index);
      if (chunk.orders.length > CHUNK_SLOTS * 2) this.#split(index);
    }
  }

  /** Marks the slot at `order` as stale. Must be called after the record's number has changed. */
  retire(order: number): void {
    this.#live -= 1;
    const index = this.#chunkAfter(order - 1);
    const chunk = this.#chunks[index];
    if (chunk === undefined) return;
    chunk.live -= 1;
    if (index === this.#chunks.length - 1) {
      // If the last chunk is half stale, it is compacted, so that a log of a few busy keys remains about as short as its number of keys.
      if (chunk.orders.length >= CHUNK_SLOTS && chunk.live < chunk.orders.length / 2) this.#compact(index);
      return;
    }
    if (chunk.live * 4 <= chunk.orders.length) this.#compact(index);
  }

  /**
   * Visits records with a number above `after`, ascending, until `visit` returns false. Cost: the number of visited slots, of which at most three
   * quarters are stale.
   */
  forEachSince(after: number, visit: (record: T, order: number) => boolean): void {
    const first = this.#chunkAfter(after);
    for (let c = first; c < this.#chunks.length; c++) {
      const chunk = this.#chunks[c];
      if (chunk === undefined) return;
      const { orders, base, records } = chunk;
      for (let i = c === first ? upperBound(orders, after - base) : 0; i < orders.length; i++) {
        const order = base + (orders[i] ?? 0);
        const record = records[i];
        if (record === undefined || this.#orderOf(record) !== order) continue;
        if (!visit(record, order)) return;
      }
    }
  }

  /** Returns a copy of all records in order. Use it if a loop changes the log. */
  list(): readonly T[] {
    const records: T[] = [];
    this.forEachSince(Number.NEGATIVE_INFINITY, (record) => {
      records.push(record);
      return true;
    });
    return records;
  }

  /** Returns the index of the first chunk that may contain a number above `after`. */
  #chunkAfter(after: number): number {
    let low = 0;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const chunk = this.#chunks[middle];
      if (chunk !== undefined && lastOf(chunk) > after) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #compact(index: number): void {
    const chunk = this.#chunks[index];
    if (chunk === undefined) return;
    const orders: number[] = [];
    const records: T[] = [];
    for (let i = 0; i < chunk.orders.length; i++) {
      const order = chunk.base + (chunk.orders[i] ?? 0);
      const record = chunk.records[i];
      if (record === undefined || this.#orderOf(record) !== order) continue;
      orders.push(order);
      records.push(record);
    }
    chunk.orders = orders;
    chunk.base = 0;
    chunk.records = records;
    chunk.live = orders.length;
    const before = this.#chunks[index - 1];
    if (orders.length === 0) this.#chunks.splice(index, 1);
    else if (before !== undefined && before.orders.length + orders.length <= CHUNK_SLOTS) {
      unpacked(before).push(...orders);
      before.records.push(...records);
      before.live += orders.length;
      this.#chunks.splice(index, 1);
    }
  }

  #split(index: number): void {
    const chunk = this.#chunks[index];
    if (chunk === undefined) return;
    const half = chunk.orders.length >>> 1;
    const orders = unpacked(chunk).splice(half);
    const records = chunk.records.splice(half);
    let live = 0;
    for (let i = 0; i < records.length; i++) {
      const record = records[i];
      if (record !== undefined && this.#orderOf(record) === orders[i]) live += 1;
    }
    chunk.live -= live;
    this.#chunks.splice(index + 1, 0, { orders, base: 0, records, live });
  }
}

/** Returns the highest number of a chunk; -1 for a chunk without slots. */
function lastOf({ orders, base }: LogChunk<unknown>): number {
  // HOT: runs about ten times per change. With `at`, and a callback in `pack`, a change in a log of 500,000 records took twice as long.
  return orders.length === 0 ? -1 : base + (orders[orders.length - 1] ?? 0);
}

/** Packs a full chunk, which rarely grows again. Arrays that grew by one element at a time have a third more capacity than they use. */
function pack(chunk: LogChunk<unknown>): void {
  chunk.records = chunk.records.slice();
  const base = chunk.base + (chunk.orders[0] ?? 0);
  if (chunk.base > 0 || lastOf(chunk) - base > MAX_UINT32) return;
  const packed = new Uint32Array(chunk.orders.length);
  for (let i = 0; i < packed.length; i++) packed[i] = (chunk.orders[i] ?? 0) - base;
  chunk.orders = packed;
  chunk.base = base;
}

const MAX_UINT32 = 2 ** 32 - 1;

/** Returns the numbers of a chunk as a plain array that can be changed. */
function unpacked(chunk: LogChunk<unknown>): number[] {
  const { orders, base } = chunk;
  const plain = Array.isArray(orders) ? orders : Array.from(orders, (order) => base + order);
  chunk.orders = plain;
  chunk.base = 0;
  return plain;
}

/** Returns the index of the first number above `value` in an ascending list. */
function upperBound(values: ArrayLike<number>, value: number): number {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((values[middle] ?? 0) > value) high = middle;
    else low = middle + 1;
  }
  return low;
}
