import * as fc from "fast-check";
import { expect, test } from "vitest";
import { DeadlineHeap } from "../../src/lib/heap.ts";
import { NEVER } from "../../src/lib/machine.ts";
import { runs } from "../fakes/effort.ts";

const steps = fc.array(
  fc.oneof(
    fc.record({ act: fc.constant("set" as const), id: fc.nat(60), deadlineMs: fc.integer({ min: 0, max: 50 }) }),
    fc.record({ act: fc.constant("remove" as const), id: fc.nat(60) }),
  ),
  { maxLength: 300 },
);

test("a heap gives deadlines in order, whatever was set, moved and removed", () => {
  fc.assert(
    fc.property(steps, (history) => {
      const heap = new DeadlineHeap();
      const model = new Map<number, number>();
      for (const step of history) {
        if (step.act === "set") {
          heap.set(step.id, step.deadlineMs);
          model.set(step.id, step.deadlineMs);
        } else {
          heap.remove(step.id);
          model.delete(step.id);
        }
        expect(heap.nextDeadlineMs()).toBe(model.size === 0 ? NEVER : Math.min(...model.values()));
      }
      expect(heap.size).toBe(model.size);
      while (model.size > 0) {
        const id = heap.nextId() ?? -1;
        expect(heap.has(id)).toBe(true);
        expect(model.get(id)).toBe(heap.nextDeadlineMs());
        heap.remove(id);
        model.delete(id);
        expect(heap.has(id)).toBe(false);
      }
      expect(heap.nextId()).toBeUndefined();
    }),
  );
});

test("what is left after removals comes in order", () => {
  const deadlines = fc.uniqueArray(fc.nat(10_000), { minLength: 20, maxLength: 80 });
  fc.assert(
    fc.property(deadlines, fc.array(fc.nat(79), { minLength: 5, maxLength: 30 }), (deadlinesMs, removed) => {
      const heap = new DeadlineHeap();
      deadlinesMs.forEach((deadlineMs, id) => heap.set(id, deadlineMs));
      for (const id of removed) heap.remove(id);
      const order: number[] = [];
      for (let id = heap.nextId(); id !== undefined; id = heap.nextId()) {
        order.push(deadlinesMs[id] ?? -1);
        heap.remove(id);
      }
      const left = deadlinesMs.filter((_, id) => !removed.includes(id));
      expect(order).toEqual(left.toSorted((x, y) => x - y));
    }),
    { numRuns: runs(300) },
  );
});

test("a heap refuses what is no id or no deadline", () => {
  const heap = new DeadlineHeap();
  expect(() => heap.set(-1, 5)).toThrow("assertion failed");
  expect(() => heap.set(1, Number.NaN)).toThrow("assertion failed");
});
