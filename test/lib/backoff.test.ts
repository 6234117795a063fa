import fc from "fast-check";
import { expect, test } from "vitest";
import { backoffMs } from "../../src/lib/backoff.ts";

const OPTIONS = { baseMs: 100, maxMs: 5000 };

test.each([
  { attempt: 0, chance: 0, want: 10 },
  { attempt: 0, chance: 1, want: 100 },
  { attempt: 3, chance: 1, want: 800 },
  { attempt: 60, chance: 1, want: 5000 },
])("attempt $attempt with chance $chance waits $want ms", ({ attempt, chance, want }) => {
  expect(backoffMs(attempt, chance, OPTIONS)).toBe(want);
});

test("a wait is never zero and never above the bound, so that nobody spins and nobody sleeps for ever", () => {
  fc.assert(
    fc.property(fc.nat(1000), fc.double({ min: 0, max: 1, noNaN: true }), (attempt, chance) => {
      const waitMs = backoffMs(attempt, chance, OPTIONS);
      expect(waitMs).toBeGreaterThanOrEqual(10);
      expect(waitMs).toBeLessThanOrEqual(5000);
    }),
  );
});
