import * as fc from "fast-check";
import { expect, test } from "vitest";
import { MergeCursor } from "../../../src/catalog/query/merge.ts";
import { ListCursor } from "../../../src/catalog/query/ordered-records.ts";
import type { CatalogRecord } from "../../../src/catalog/record/record.ts";
import { byKey, testRecord } from "../../fakes/records.ts";

function rest(cursor: MergeCursor): readonly CatalogRecord[] {
  const records: CatalogRecord[] = [];
  for (let record = cursor.next(); record !== undefined; record = cursor.next()) records.push(record);
  return records;
}

test("merged lists read as one sorted list, from the start and from any key", () => {
  fc.assert(
    fc.property(fc.array(fc.nat(5), { maxLength: 60 }), fc.nat(70), (owners, from) => {
      // Record i belongs to list owners[i]: lists have nothing in common.
      const all = owners.map((_, i) => testRecord({ instanceId: String(i).padStart(3, "0") }));
      const lists = [0, 1, 2, 3, 4, 5].map((list) => all.filter((_, i) => owners[i] === list));
      const merged = new MergeCursor(lists.map((list) => new ListCursor(list)));
      expect(rest(merged)).toEqual(all.toSorted(byKey));
      expect(merged.next()).toBeUndefined();
      const { key } = testRecord({ instanceId: String(from).padStart(3, "0") });
      merged.seek(key);
      expect(rest(merged)).toEqual(all.filter((record) => record.key >= key).toSorted(byKey));
    }),
  );
});

test("merging nothing ends at once", () => {
  expect(new MergeCursor([]).next()).toBeUndefined();
});
