import * as fc from "fast-check";
import { expect, test } from "vitest";
import { BLOCK_SIZE, ListCursor, OrderedRecords } from "../../../src/catalog/query/ordered-records.ts";
import type { CatalogRecord } from "../../../src/catalog/record/record.ts";
import { runs } from "../../fakes/effort.ts";
import { byKey, testRecord } from "../../fakes/records.ts";

function numbered(i: number): CatalogRecord {
  return testRecord({ instanceId: String(i).padStart(5, "0") });
}

function listed(list: OrderedRecords): CatalogRecord[] {
  const records: CatalogRecord[] = [];
  const cursor = new ListCursor(list);
  for (let record = cursor.next(); record !== undefined; record = cursor.next()) records.push(record);
  return records;
}

/** Stretches of puts or removes of neighbouring numbers, so that blocks split and join. */
const stretches = fc.array(
  fc.record({ put: fc.boolean(), start: fc.nat(3000), step: fc.integer({ min: -3, max: 3 }), count: fc.nat(700) }),
  {
    maxLength: 12,
  },
);

test("a list holds what a sorted array holds, whatever was put and removed", () => {
  fc.assert(
    fc.property(stretches, fc.nat(3000), (steps, probe) => {
      const list = new OrderedRecords();
      const model = new Map<string, CatalogRecord>();
      for (const { put, start, step, count } of steps) {
        for (let i = 0; i < count; i += 1) {
          const record = numbered((start + i * step + 9000) % 3000);
          const held = model.has(record.key);
          const outcome = put ? list.put(record) : list.remove(record.key);
          if (put) model.set(record.key, record);
          else model.delete(record.key);
          expect(outcome).toBe(put ? (held ? "replaced" : "added") : held ? "removed" : "absent");
        }
      }
      const sorted = [...model.values()].toSorted(byKey);
      expect(list.size).toBe(sorted.length);
      const found = listed(list);
      expect(found.length).toBe(sorted.length);
      expect(found.every((record, i) => record === sorted[i])).toBe(true);
      const { key } = numbered(probe);
      expect(list.find(key)).toBe(model.get(key));
      const cursor = new ListCursor(list);
      cursor.seek(key);
      expect(cursor.next()).toBe(sorted.find((record) => record.key >= key));
      // Thin blocks join: two neighbours never both stay nearly empty.
      expect(list.blockCount).toBeLessThanOrEqual(1 + (4 * sorted.length) / (BLOCK_SIZE / 4) + 1);
    }),
    { numRuns: runs(60) },
  );
});

test("an estimated range is off by no more than its inner blocks differ from the average", () => {
  const list = new OrderedRecords();
  for (let i = 0; i < 10_000; i += 1) list.put(numbered((i * 7919) % 10_000));
  for (const [from, to] of [
    [0, 10_000],
    [100, 150],
    [100, 9_000],
    [5_000, 5_000],
    [7_000, 6_000],
  ] as const) {
    const estimate = list.estimateRange(numbered(from).key, numbered(to).key);
    const exact = Math.max(0, to - from);
    expect(Math.abs(estimate - exact)).toBeLessThanOrEqual(exact * 0.2);
  }
});

test("blocks that empty between full ones are given back", () => {
  const list = OrderedRecords.from(Array.from({ length: 20 * BLOCK_SIZE }, (_, i) => numbered(i)));
  for (let i = 0; i < 20 * BLOCK_SIZE; i += 1) if (Math.floor(i / BLOCK_SIZE) % 2 === 1) list.remove(numbered(i).key);
  expect(list.size).toBe(10 * BLOCK_SIZE);
  expect(list.blockCount).toBe(10);
  expect(list.find(numbered(2 * BLOCK_SIZE).key)).toEqual(numbered(2 * BLOCK_SIZE));
});

test("a list loaded in key order has full blocks", () => {
  const list = OrderedRecords.from(Array.from({ length: 10 * BLOCK_SIZE }, (_, i) => numbered(i)));
  expect(list.blockCount).toBe(10);
});

test("a cursor over an array seeks and ends", () => {
  const records = [numbered(1), numbered(3), numbered(5)];
  const cursor = new ListCursor(records);
  cursor.seek(numbered(2).key);
  expect(cursor.next()).toBe(records[1]);
  expect(cursor.next()).toBe(records[2]);
  expect(cursor.next()).toBeUndefined();
  expect(cursor.next()).toBeUndefined();
  cursor.seek("");
  expect(cursor.next()).toBe(records[0]);
});
