import { expect, test } from "vitest";
import { Postings } from "../../../src/catalog/query/ordered-records.ts";
import type { CatalogRecord } from "../../../src/catalog/record/record.ts";
import { byKey, testRecord } from "../../fakes/records.ts";

function listed(postings: Postings, term: string): readonly CatalogRecord[] {
  const records: CatalogRecord[] = [];
  const cursor = postings.cursor(term);
  for (let record = cursor.next(); record !== undefined; record = cursor.next()) records.push(record);
  return records;
}

test("a list under a term stays right while it grows past an array and shrinks back to one record", () => {
  const postings = new Postings();
  const records = Array.from({ length: 600 }, (_, i) => testRecord({ instanceId: String((i * 271) % 600) }));
  records.forEach((record, i) => {
    postings.put("t", record);
    postings.put("t", record);
    expect(postings.count("t")).toBe(i + 1);
  });
  expect(listed(postings, "t")).toEqual(records.toSorted(byKey));
  for (let left = 600; left > 0; left -= 1) {
    const rest = records.slice(0, left);
    expect(postings.count("t")).toBe(left);
    const shown = left % 50 === 0 || left < 4 ? listed(postings, "t") : rest.toSorted(byKey);
    expect(shown).toEqual(rest.toSorted(byKey));
    postings.remove("t", records[left - 1] ?? testRecord());
    postings.remove("t", records[left - 1] ?? testRecord());
  }
  expect(postings.count("t")).toBe(0);
  expect(postings.termCount).toBe(0);
});

test.each([1, 2, 40, 400])("a record put again replaces the object with its key, in a list of %i", (count) => {
  const postings = new Postings();
  const records = Array.from({ length: count }, (_, i) => testRecord({ instanceId: String(i) }));
  for (const record of records) postings.put("t", record);
  const newer = { ...testRecord({ instanceId: "0" }), seq: 2 };
  postings.put("t", newer);
  expect(postings.count("t")).toBe(count);
  expect(listed(postings, "t")[0]).toBe(newer);
});

test.each([1, 2, 40, 400])("removing a key that is not there changes nothing, in a list of %i", (count) => {
  const postings = new Postings();
  for (let i = 0; i < count; i += 1) postings.put("t", testRecord({ instanceId: String(i) }));
  postings.remove("t", testRecord({ instanceId: "none" }));
  postings.remove("other", testRecord({ instanceId: "0" }));
  expect(postings.count("t")).toBe(count);
});

test.each([0, 1, 2, 40, 400])("a range of a list of %i is estimated exactly enough to choose by", (count) => {
  const postings = new Postings();
  const key = (i: number) => testRecord({ instanceId: String(i).padStart(4, "0") }).key;
  for (let i = 0; i < count; i += 1) postings.put("t", testRecord({ instanceId: String(i).padStart(4, "0") }));
  expect(postings.estimateRange("t", "", "\uffff")).toBe(count);
  expect(postings.estimateRange("t", key(1), key(3))).toBe(Math.max(0, Math.min(count, 3) - 1));
  expect(postings.estimateRange("t", key(3), key(1))).toBe(0);
});
