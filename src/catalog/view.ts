/** Several origins' records of one key → what people see of it (semantics.md, Several origins for one key). */
import { BODY, type CatalogRecord } from "./record.ts";

/** Order of one key's records: newest stamp first; of equal stamps entries before tombstones, then the higher origin id. */
export function compareForView(a: CatalogRecord, b: CatalogRecord): number {
  if (a.hlc !== b.hlc) return b.hlc - a.hlc;
  if (a.body !== b.body && (a.body === BODY.ENTRY || b.body === BODY.ENTRY)) return a.body === BODY.ENTRY ? -1 : 1;
  return a.origin.id < b.origin.id ? 1 : a.origin.id > b.origin.id ? -1 : 0;
}

/**
 * The record people see of a key, or undefined. `records` are sorted by `compareForView`. An `unregistered` tombstone
 * hides every older record, whatever its origin; an `expired` one ends only its own; a hidden origin's record is passed
 * over, and one that `admits` refuses.
 */
export function winnerOf<T extends CatalogRecord>(records: readonly T[], admits: (record: T) => boolean = everything): T | undefined {
  for (const record of records) {
    switch (record.body) {
      case BODY.UNREGISTERED:
        return undefined;
      case BODY.EXPIRED:
        continue;
      case BODY.ENTRY:
        if (record.origin.life !== "hidden" && admits(record)) return record;
    }
  }
  return undefined;
}

function everything(): boolean {
  return true;
}
