/** Shrinking finds the few steps that matter. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { shrink } from "./shrink.ts";

test("of any list, what is needed to fail is left and nothing else", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 60 }), fc.array(fc.nat(59), { minLength: 1, maxLength: 4 }), (length, wanted) => {
      const items = Array.from({ length }, (_, i) => i);
      const needed = [...new Set(wanted.map((n) => n % length))].toSorted((a, b) => a - b);
      const { items: left } = shrink(
        items,
        (some) => needed.every((n) => some.includes(n)),
        () => true,
      );
      expect(left).toEqual(needed);
    }),
  );
});

test("it stops when it may not go on", () => {
  const { items, runs } = shrink(
    [1, 2, 3, 4],
    () => true,
    (done) => done < 1,
  );
  expect(runs).toBeLessThanOrEqual(2);
  expect(items.length).toBeGreaterThan(0);
});
