/** Seeded chance. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { Rng } from "../../src/lib/rng.ts";

function draws(rng: Rng, count: number): number[] {
  return Array.from({ length: count }, () => rng.uint32());
}

test("the same seed gives the same numbers, another seed others", () => {
  expect(draws(new Rng(7), 20)).toEqual(draws(new Rng("7"), 20));
  expect(draws(new Rng(7), 20)).not.toEqual(draws(new Rng(8), 20));
});

test("the sequence of a seed never changes, so that a seed found years ago still replays", () => {
  expect(draws(new Rng(8123), 4)).toEqual([1016310199, 2028706702, 468224515, 341697312]);
});

test("a fork depends on the seed and its name, not on what was drawn before", () => {
  const untouched = new Rng(1);
  const used = new Rng(1);
  draws(used, 100);
  expect(draws(used.fork("network"), 5)).toEqual(draws(untouched.fork("network"), 5));
  expect(draws(used.fork("faults"), 5)).not.toEqual(draws(used.fork("network"), 5));
});

test("next is in [0, 1) and int(n) in [0, n), whatever the seed", () => {
  fc.assert(
    fc.property(fc.string(), fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }), (seed, n) => {
      const rng = new Rng(seed);
      const x = rng.next();
      const i = rng.int(n);
      return x >= 0 && x < 1 && Number.isSafeInteger(i) && i >= 0 && i < n;
    }),
  );
});

test("int reaches every value about equally often", () => {
  const rng = new Rng("dice");
  const counts = [0, 0, 0, 0, 0, 0];
  for (let i = 0; i < 60_000; i++) counts[rng.int(6)]!++;
  // Six standard deviations of a fair die: 10,000 ± 550.
  for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(550);
});

test("int of nothing is a bug of the caller", () => {
  expect(() => new Rng(1).int(0)).toThrow("positive whole number");
});
