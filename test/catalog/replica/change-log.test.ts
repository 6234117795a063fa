/** Records in order of change, against a sorted list. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { ChangeLog } from "../../../src/catalog/replica/change-log.ts";
import { runs } from "../../fakes/effort.ts";

interface Item {
  order: number;
}

const CHUNK_SLOTS = 2048;

function visited(log: ChangeLog<Item>, after: number, max = Number.POSITIVE_INFINITY): number[] {
  const orders: number[] = [];
  log.forEachSince(after, (item, order) => {
    expect(item.order).toBe(order);
    orders.push(order);
    return orders.length < max;
  });
  return orders;
}

/** Moves a random item to the end, adds one, inserts one between others, or drops one. */
const step = fc.tuple(fc.constantFrom("touch", "touch", "touch", "add", "insert", "drop"), fc.nat(), fc.integer({ min: 1, max: 400 }));

test("whatever is appended, inserted and retired, a visit gives what a sorted list gives, and memory follows what is live", () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 5, maxLength: 60 }), fc.nat(), (steps, salt) => {
      const log = new ChangeLog<Item>((item) => item.order);
      const items: Item[] = [];
      let last = 0;
      for (const [kind, pick, times] of steps) {
        for (let n = 0; n < times; n++) {
          const item = items[(pick + (kind === "touch" ? 0 : n)) % Math.max(1, items.length)];
          if (kind === "add" || item === undefined) {
            // Numbers leave room for those inserted later.
            last += 10;
            const fresh = { order: last };
            items.push(fresh);
            log.append(last, fresh);
          } else if (kind === "insert") {
            const order = 1 + ((pick + n * 7919) % (last + 20));
            if (items.some((other) => other.order === order)) continue;
            const fresh = { order };
            items.push(fresh);
            log.insert(order, fresh);
            last = Math.max(last, order);
          } else {
            const old = item.order;
            last += 10;
            item.order = kind === "touch" ? last : -1;
            log.retire(old);
            if (kind === "touch") log.append(last, item);
            else items.splice(items.indexOf(item), 1);
          }
        }
      }
      const sorted = items.map((item) => item.order).toSorted((a, b) => a - b);
      expect(log.size).toBe(items.length);
      for (const after of [0, salt % (last + 1), last - 15, last]) {
        const want = sorted.filter((order) => order > after);
        expect(visited(log, after)).toEqual(want);
        expect(visited(log, after, 3)).toEqual(want.slice(0, 3));
      }
      expect(log.list().map((item) => item.order)).toEqual(sorted);
      expect(log.slots).toBeLessThanOrEqual(4 * items.length + 2 * CHUNK_SLOTS);
    }),
    { numRuns: runs(40) },
  );
});

test("keys that are hot one after the other leave no full chunk of stale slots behind each", () => {
  const log = new ChangeLog<Item>((item) => item.order);
  let last = 0;
  for (let key = 0; key < 50; key++) {
    const item = { order: (last += 1) };
    log.append(last, item);
    for (let n = 1; n < CHUNK_SLOTS; n++) {
      const old = item.order;
      item.order = last += 1;
      log.retire(old);
      log.append(last, item);
    }
  }
  expect(log.size).toBe(50);
  expect(log.slots).toBeLessThanOrEqual(4 * 50 + 2 * CHUNK_SLOTS);
});

test("keys that all change again and again leave a quarter live at least, in every chunk but the last ones", () => {
  const log = new ChangeLog<Item>((item) => item.order);
  const items: Item[] = Array.from({ length: 10_000 }, (_, i) => ({ order: i + 1 }));
  for (const item of items) log.append(item.order, item);
  let last = items.length;
  for (let round = 0; round < 8; round++) {
    for (const item of items) {
      const old = item.order;
      item.order = last += 1;
      log.retire(old);
      log.append(last, item);
    }
  }
  expect(log.slots).toBeLessThanOrEqual(4 * items.length + 2 * CHUNK_SLOTS);
  expect(visited(log, last - 3)).toEqual([last - 2, last - 1, last]);
});

test("a log of one hot key stays as short as a chunk", () => {
  const log = new ChangeLog<Item>((item) => item.order);
  const item = { order: 1 };
  log.append(1, item);
  for (let order = 2; order < 50_000; order++) {
    const old = item.order;
    item.order = order;
    log.retire(old);
    log.append(order, item);
  }
  expect(log.slots).toBeLessThanOrEqual(CHUNK_SLOTS);
  expect(visited(log, 0)).toEqual([49_999]);
});

test("inserts below a full log keep the order and the chunks short enough to split", () => {
  const log = new ChangeLog<Item>((item) => item.order);
  for (let order = 20_000; order <= 30_000; order++) log.append(order, { order });
  for (let order = 10_000; order > 0; order--) log.insert(order, { order });
  const orders = visited(log, 0);
  expect(orders).toEqual(orders.toSorted((a, b) => a - b));
  expect(orders).toHaveLength(20_001);
  expect(visited(log, 9_999, 2)).toEqual([10_000, 20_000]);
});
