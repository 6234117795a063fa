/** Maps terms to records: the lists for names, tags, capabilities and resources. */
import { assert } from "../../lib/errors.ts";
import type { CatalogRecord } from "../record/record.ts";
import { BLOCK_SIZE, Cursor, inserted, lowerBound, OrderedRecords } from "./ordered.ts";

/**
 * A list has the smallest shape that holds it. A million names with one instance each must not cost a list object each, and ten instances
 * need one exact array.
 */
type Posting = CatalogRecord | CatalogRecord[] | OrderedRecords;

/** A long list becomes an array again only well below the size of a block, so that one record that comes and goes does not rebuild it. */
const SHRINK_AT = BLOCK_SIZE / 2;

const NO_RECORDS: readonly CatalogRecord[] = [];

/** Records by term, each list in key order. Putting a record twice, or removing an absent one, changes nothing. */
export class Postings {
  readonly #byTerm = new Map<string, Posting>();

  /** Number of terms with at least one record. */
  get termCount(): number {
    return this.#byTerm.size;
  }

  /** Number of records under the term. */
  count(term: string): number {
    const posting = this.#byTerm.get(term);
    if (posting === undefined) return 0;
    if (posting instanceof OrderedRecords) return posting.size;
    return Array.isArray(posting) ? posting.length : 1;
  }

  /** Approximate number of the term's records with fromKey ≤ key < toKey. */
  estimateRange(term: string, fromKey: string, toKey: string): number {
    const posting = this.#byTerm.get(term);
    if (posting instanceof OrderedRecords) return posting.estimateRange(fromKey, toKey);
    const records = arrayOf(posting);
    return Math.max(0, lowerBound(records, toKey) - lowerBound(records, fromKey));
  }

  /** The term's records in key order. Do not keep the list, because it changes in place. */
  list(term: string): OrderedRecords | readonly CatalogRecord[] {
    const posting = this.#byTerm.get(term);
    return posting instanceof OrderedRecords ? posting : arrayOf(posting);
  }

  /** Walks the term's records; empty for an unknown term. */
  cursor(term: string): Cursor {
    return new Cursor(this.list(term));
  }

  /** Puts the record under the term, in the place of a record with the same key. */
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
      assert(first !== undefined, "an array posting has two records or more", { term });
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
  const cursor = new Cursor(list);
  for (let record = cursor.next(); record !== undefined; record = cursor.next()) records.push(record);
  return records;
}
