/** Records in key order, in sorted blocks with a directory. All lists of the index have this form. */

import { assert } from "../../lib/errors.ts";
import type { CatalogRecord, KeyText } from "../record/record.ts";

/** Maximum number of records in a block; a full block is split in two. */
export const BLOCK_SIZE = 256;

/**
 * Arrays shorter than this grow by one slot at a time. V8 grows an array by half its length plus 16 slots, which would triple a list of ten. An array
 * of half a block grows to 209 slots, and then to a whole block; V8 would allocate 331 slots. Measured with 1M records put in random order: 9 % less
 * memory.
 */
const EXACT_GROWTH_BELOW = 32;
const WHOLE_FROM = 209;

/** Returns the index of the first record with a key ≥ `key` in a sorted array. */
export function lowerBound(records: readonly CatalogRecord[], key: string): number {
  let low = 0;
  let high = records.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const record = records[middle];
    if (record !== undefined && record.key < key) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Returns the array with `record` at `index`: the same array, or a copy with more capacity. */
function inserted(records: CatalogRecord[], index: number, record: CatalogRecord): CatalogRecord[] {
  const { length } = records;
  if (length < EXACT_GROWTH_BELOW) return records.toSpliced(index, 0, record);
  if (index === length) {
    records.push(record);
    return records;
  }
  const roomy = length === WHOLE_FROM ? withRoom(records) : records;
  roomy.splice(index, 0, record);
  return roomy;
}

/** Returns a copy with capacity for a whole block. If less than half of an array is cut off, V8 keeps its capacity. */
function withRoom(records: readonly CatalogRecord[]): CatalogRecord[] {
  const roomy = records.concat(records.slice(0, BLOCK_SIZE - records.length));
  roomy.length = records.length;
  return roomy;
}

/** Whether a put added a new item or replaced an existing one. */
export type PutOutcome = "added" | "replaced";

/**
 * A sorted list of records, one for each key, in code-unit order of `key`. Insert, remove and find cost O(log n), plus moving the items of one block.
 * An item needs about 8–12 B. The `key` of a record must not change while the record is in a list.
 */
export class OrderedRecords {
  // There is at least one block, and only the block of an empty list is empty.
  readonly #blocks: CatalogRecord[][] = [[]];
  // For each block, a key that is ≤ every key in the block and > every key in the previous block. This key may belong to a record that has been
  // removed. These keys are in a separate list, so that searching the directory does not access any record.
  readonly #floors: string[] = [""];
  #size = 0;
  /**
   * The position of `#soughtKey`, or the position at which this key would be inserted. HOT: one registration looks up its key up to eight times in a
   * row. In a catalog of a million records, each search compares long keys twenty times (bench/register.ts).
   */
  #soughtKey: string | undefined;
  #soughtBlock = 0;
  #soughtIndex = 0;
  #sought: CatalogRecord | undefined;

  /** Returns a list of the records in a sorted array without repeated keys. */
  static from(records: readonly CatalogRecord[]): OrderedRecords {
    const list = new OrderedRecords();
    for (const record of records) list.put(record);
    return list;
  }

  get size(): number {
    return this.#size;
  }

  /** Number of blocks, for `ListCursor` and tests. */
  get blockCount(): number {
    return this.#blocks.length;
  }

  /** Returns the records in one block, in order. Used by `ListCursor`. */
  block(index: number): readonly CatalogRecord[] {
    return this.#blocks[index] ?? [];
  }

  /** Returns the index of the block that contains `key` or would contain it. */
  blockOf(key: string): number {
    const floors = this.#floors;
    let low = 0;
    let high = floors.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      const floor = floors[middle];
      if (floor !== undefined && floor <= key) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  find(key: string): CatalogRecord | undefined {
    this.#seek(key);
    return this.#sought;
  }

  /** Finds the position of the key, and the record at that position. */
  #seek(key: string): void {
    if (key === this.#soughtKey) return;
    if (!this.#isNear(key)) {
      this.#soughtBlock = this.blockOf(key);
      this.#soughtIndex = lowerBound(this.block(this.#soughtBlock), key);
    }
    this.#soughtKey = key;
    const record = this.block(this.#soughtBlock)[this.#soughtIndex];
    this.#sought = record?.key === key ? record : undefined;
  }

  /**
   * If the key is at the last sought position or the next one, sets the position and returns true. HOT: programs register entries in the order of
   * their keys, so three comparisons find the position (bench/register.ts).
   */
  #isNear(key: string): boolean {
    const block = this.block(this.#soughtBlock);
    let index = this.#soughtIndex;
    const sought = block[index];
    if (sought !== undefined && sought.key < key) index += 1;
    else if ((block[index - 1]?.key ?? "") >= key || (this.#floors[this.#soughtBlock] ?? "") > key) return false;
    const next = block[index];
    const end = next?.key ?? this.#floors[this.#soughtBlock + 1];
    if (end !== undefined && (end < key || (end === key && next === undefined))) return false;
    this.#soughtIndex = index;
    return true;
  }

  /** Clears the last position, because blocks have changed. */
  #forgetPlace(): void {
    this.#soughtKey = undefined;
    this.#soughtBlock = 0;
    this.#soughtIndex = 0;
  }

  /** Inserts the record, or replaces the record with the same key. */
  put(record: CatalogRecord): PutOutcome {
    this.#seek(record.key);
    const at = this.#soughtBlock;
    const index = this.#soughtIndex;
    const block = this.#blocks[at] ?? [];
    if (this.#sought !== undefined) {
      block[index] = record;
      this.#sought = record;
      return "replaced";
    }
    this.#size += 1;
    if (block.length < BLOCK_SIZE) {
      this.#blocks[at] = inserted(block, index, record);
      this.#sought = record;
    } else if (index === BLOCK_SIZE && at === this.#blocks.length - 1) {
      // If records arrive in key order, every block is filled. Splitting blocks in half would leave all of them half empty.
      this.#blocks[at] = block.slice();
      this.#blocks.push([record]);
      this.#floors.push(record.key);
      this.#forgetPlace();
    } else {
      this.#split(at, block, index, record);
      this.#forgetPlace();
    }
    return "added";
  }

  #split(at: number, block: CatalogRecord[], index: number, record: CatalogRecord): void {
    const half = BLOCK_SIZE >>> 1;
    const left = block.slice(0, half);
    const right = block.slice(half);
    if (index <= half) left.splice(index, 0, record);
    else right.splice(index - half, 0, record);
    this.#blocks[at] = left;
    this.#blocks.splice(at + 1, 0, right);
    this.#floors.splice(at + 1, 0, right[0]?.key ?? record.key);
  }

  /** Removes the record with this key. */
  remove(key: KeyText): "removed" | "absent" {
    this.#seek(key);
    const at = this.#soughtBlock;
    const index = this.#soughtIndex;
    const block = this.#blocks[at] ?? [];
    if (this.#sought === undefined) return "absent";
    this.#forgetPlace();
    this.#size -= 1;
    block.splice(index, 1);
    this.#join(at, block);
    return "removed";
  }

  /** Merges a small block with a neighbour, so that the number of blocks remains proportional to the number of records. */
  #join(at: number, block: CatalogRecord[]): void {
    if (this.#blocks.length === 1 || block.length > BLOCK_SIZE / 4) return;
    const left = at === 0 ? 0 : at - 1;
    const first = this.#blocks[left] ?? [];
    const second = this.#blocks[left + 1] ?? [];
    if (block.length > 0 && first.length + second.length > (BLOCK_SIZE * 3) / 4) return;
    this.#blocks[left] = first.concat(second);
    this.#blocks.splice(left + 1, 1);
    this.#floors.splice(left + 1, 1);
  }

  /**
   * Returns the approximate number of records with fromKey ≤ key < toKey. The number is exact if the range lies within one block. Otherwise the error
   * is at most one block at either end.
   */
  estimateRange(fromKey: string, toKey: string): number {
    if (fromKey >= toKey) return 0;
    const first = this.blockOf(fromKey);
    const last = this.blockOf(toKey);
    const from = lowerBound(this.block(first), fromKey);
    const to = lowerBound(this.block(last), toKey);
    if (first === last) return to - from;
    const average = this.#size / this.#blocks.length;
    return this.block(first).length - from + Math.round((last - first - 1) * average) + to;
  }
}

/** Iterates over records in key order, and can seek. */
export interface RecordCursor {
  /** Returns the next record, or undefined at the end. */
  next(): CatalogRecord | undefined;
  /** Moves to the first record with a key ≥ `key`, forward or backward. */
  seek(key: string): void;
}

/**
 * Reads an OrderedRecords or a sorted array without allocating memory for each item. Starts at the first record. Valid until the list changes; after
 * a change, `seek` must be called again.
 */
export class ListCursor implements RecordCursor {
  readonly #list: OrderedRecords | undefined;
  #records: readonly CatalogRecord[];
  #blockIndex = 0;
  #index = 0;

  constructor(source: OrderedRecords | readonly CatalogRecord[]) {
    this.#list = source instanceof OrderedRecords ? source : undefined;
    this.#records = source instanceof OrderedRecords ? source.block(0) : source;
  }

  seek(key: string): void {
    if (this.#list !== undefined) {
      this.#blockIndex = this.#list.blockOf(key);
      this.#records = this.#list.block(this.#blockIndex);
    }
    // HOT: for most names and tags, all records are after the key, and each comparison reads another key's text.
    const isBefore = (this.#records[0]?.key ?? key) >= key;
    this.#index = isBefore ? 0 : lowerBound(this.#records, key);
  }

  next(): CatalogRecord | undefined {
    while (this.#index >= this.#records.length) {
      if (this.#list === undefined || this.#blockIndex + 1 >= this.#list.blockCount) return undefined;
      this.#blockIndex += 1;
      this.#records = this.#list.block(this.#blockIndex);
      this.#index = 0;
    }
    const record = this.#records[this.#index];
    this.#index += 1;
    return record;
  }
}

// Maps terms to records: the lists for names, tags, capabilities and resources.

/**
 * The data structure with the least overhead for the number of records of a term. A million names with one instance each must not need a million list
 * objects, and a term with ten instances must need only one array without spare capacity.
 */
type PostingList = CatalogRecord | CatalogRecord[] | OrderedRecords;

/**
 * A long list is converted back to an array only when it is well below the size of a block, so that repeatedly adding and removing one record does
 * not rebuild it each time.
 */
const SHRINK_AT = BLOCK_SIZE / 2;

const NO_RECORDS: readonly CatalogRecord[] = [];

/** Records by term; each list is in key order. Putting a record twice, or removing an absent record, has no effect. */
export class Postings {
  readonly #byTerm = new Map<string, PostingList>();

  /** Number of terms with at least one record. */
  get termCount(): number {
    return this.#byTerm.size;
  }

  /** Returns the number of records under the term. */
  count(term: string): number {
    const posting = this.#byTerm.get(term);
    if (posting === undefined) return 0;
    if (posting instanceof OrderedRecords) return posting.size;
    return Array.isArray(posting) ? posting.length : 1;
  }

  /** Returns the approximate number of the term's records with fromKey ≤ key < toKey. */
  estimateRange(term: string, fromKey: string, toKey: string): number {
    const posting = this.#byTerm.get(term);
    if (posting instanceof OrderedRecords) return posting.estimateRange(fromKey, toKey);
    const records = arrayOf(posting);
    return Math.max(0, lowerBound(records, toKey) - lowerBound(records, fromKey));
  }

  /** Returns the term's records in key order. Callers must not keep the list, because it changes in place. */
  list(term: string): OrderedRecords | readonly CatalogRecord[] {
    const posting = this.#byTerm.get(term);
    return posting instanceof OrderedRecords ? posting : arrayOf(posting);
  }

  /** Returns a cursor over the term's records, which is empty for an unknown term. */
  cursor(term: string): ListCursor {
    return new ListCursor(this.list(term));
  }

  /** Puts the record under the term, and replaces a record with the same key. */
  put(term: string, record: CatalogRecord): void {
    const posting = this.#byTerm.get(term);
    if (posting instanceof OrderedRecords) {
      posting.put(record);
    } else if (posting === undefined) {
      this.#byTerm.set(term, record);
    } else if (Array.isArray(posting)) {
      this.#putInArray(term, posting, record);
    } else if (posting.key === record.key) {
      this.#byTerm.set(term, record);
    } else {
      this.#byTerm.set(term, posting.key < record.key ? [posting, record] : [record, posting]);
    }
  }

  #putInArray(term: string, records: CatalogRecord[], record: CatalogRecord): void {
    const index = lowerBound(records, record.key);
    if (records[index]?.key === record.key) {
      records[index] = record;
    } else if (records.length < BLOCK_SIZE) {
      const grown = inserted(records, index, record);
      if (grown !== records) this.#byTerm.set(term, grown);
    } else {
      const list = OrderedRecords.from(records);
      list.put(record);
      this.#byTerm.set(term, list);
    }
  }

  /** Removes the record with this record's key from the term. */
  remove(term: string, record: CatalogRecord): void {
    const posting = this.#byTerm.get(term);
    if (posting === undefined) return;
    if (posting instanceof OrderedRecords) {
      posting.remove(record.key);
      if (posting.size <= SHRINK_AT) this.#byTerm.set(term, toArray(posting));
    } else if (!Array.isArray(posting)) {
      if (posting.key === record.key) this.#byTerm.delete(term);
    } else {
      const index = lowerBound(posting, record.key);
      if (posting[index]?.key !== record.key) return;
      posting.splice(index, 1);
      const [first, second] = posting;
      assert(first !== undefined, "an array posting had fewer than two records", { term });
      if (second === undefined) this.#byTerm.set(term, first);
    }
  }
}

function arrayOf(posting: CatalogRecord | CatalogRecord[] | undefined): readonly CatalogRecord[] {
  if (posting === undefined) return NO_RECORDS;
  return Array.isArray(posting) ? posting : [posting];
}

function toArray(list: OrderedRecords): CatalogRecord[] {
  const records: CatalogRecord[] = [];
  const cursor = new ListCursor(list);
  for (let record = cursor.next(); record !== undefined; record = cursor.next()) records.push(record);
  return records;
}
