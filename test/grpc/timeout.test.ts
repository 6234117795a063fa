/** grpc-timeout: what is written is read as at least as long, and nothing but the grammar is read. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { formatTimeout, parseTimeout } from "../../src/grpc/wire/timeout.ts";

test.each([
  ["1n", 1e-6],
  ["5u", 5e-3],
  ["100m", 100],
  ["2S", 2_000],
  ["3M", 180_000],
  ["4H", 14_400_000],
  ["0S", 0],
  ["87600H", 87_600 * 3_600_000],
  ["87601H", undefined],
  ["99999999H", undefined],
  [undefined, undefined],
])("%s is %s ms", (text, ms) => {
  expect(parseTimeout(text)).toBe(ms);
});

test.each(["", "1", "S", "-1S", "1.5S", "123456789S", "1s", " 1S", "1S, 2S", "1 S", "1SS", "NaNm"])("%j is refused", (text) => {
  expect(() => parseTimeout(text)).toThrow(/invalid_argument: grpc-timeout: want 1 to 8 digits/);
});

test("a timeout that is written is read as no shorter, and at most a thousandth longer beyond 100 ms", () => {
  fc.assert(
    fc.property(fc.double({ min: 1e-6, max: 3e11, noNaN: true }), (ms) => {
      const text = formatTimeout(ms);
      expect(text).toMatch(/^\d{1,8}[HMSmun]$/);
      const read = parseTimeout(text) ?? ms;
      expect(read).toBeGreaterThanOrEqual(ms * (1 - 1e-9));
      if (ms > 100) expect(read).toBeLessThanOrEqual(ms * 1.001);
    }),
  );
  expect([formatTimeout(0), formatTimeout(-5), formatTimeout(1e15)]).toEqual(["1n", "1n", "99999999H"]);
});
