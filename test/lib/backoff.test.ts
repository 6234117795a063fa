import fc from "fast-check";
import { expect, test } from "vitest";
import { backoffMs } from "../../src/lib/backoff.ts";

const BOUNDS = { baseMs: 250, maxMs: 10_000 };

test.each([
  { attempt: 0, atMostMs: 250 },
  { attempt: 1, atMostMs: 500 },
  { attempt: 5, atMostMs: 8000 },
  { attempt: 6, atMostMs: 10_000 },
  { attempt: 1_000_000, atMostMs: 10_000 },
])("attempt $attempt waits at most $atMostMs ms", ({ attempt, atMostMs }) => {
  expect(backoffMs(attempt, 0.999_999_999, BOUNDS)).toBe(atMostMs);
  expect(backoffMs(attempt, 0, BOUNDS)).toBe(atMostMs / 10);
});

test("a wait is never above its bound nor below a tenth of it, whatever chance says", () => {
  fc.assert(
    fc.property(fc.nat(2000), fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (attempt, chance) => {
      const waitMs = backoffMs(attempt, chance, BOUNDS);
      expect(waitMs).toBeGreaterThanOrEqual(25);
      expect(waitMs).toBeLessThanOrEqual(10_000);
    }),
  );
});
