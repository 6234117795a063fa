import { randomFillSync } from "node:crypto";
import fc from "fast-check";
import { expect, test } from "vitest";
import { draws, Rng } from "../../src/lib/rng.ts";

function taken(rng: Rng, count: number): number[] {
  return Array.from({ length: count }, () => rng.uint32());
}

test("the same seed gives the same numbers, another seed others", () => {
  expect(taken(new Rng(7), 20)).toEqual(taken(new Rng("7"), 20));
  expect(taken(new Rng(7), 20)).not.toEqual(taken(new Rng(8), 20));
});

test("the sequence of a seed never changes, so that a seed found years ago still replays", () => {
  expect(taken(new Rng(8123), 4)).toEqual([1016310199, 2028706702, 468224515, 341697312]);
});

test("a fork depends on the seed and its name, not on what was drawn before", () => {
  const untouched = new Rng(1);
  const used = new Rng(1);
  taken(used, 100);
  expect(taken(used.fork("network"), 5)).toEqual(taken(untouched.fork("network"), 5));
  expect(taken(used.fork("faults"), 5)).not.toEqual(taken(used.fork("network"), 5));
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

test("a thousand numbers ask the system once, and no number is given out twice", () => {
  let asked = 0;
  let word = 0;
  const draw = draws((words) => {
    asked += 1;
    for (let i = 0; i < words.length; i++) words[i] = word++;
  });
  const drawn = Array.from({ length: 3000 }, draw);
  expect(asked).toBe(3);
  expect(drawn.map((number) => number * 2 ** 32)).toEqual(Array.from({ length: 3000 }, (_, i) => i));
});

test("numbers are from 0 to below 1, the ends included in what may be written", () => {
  const draw = draws((words) => words.fill(0xffff_ffff).fill(0, 0, 1));
  expect(draw()).toBe(0);
  expect(draw()).toBeLessThan(1);
});

test("with the system's chance they are spread evenly", () => {
  const draw = draws(randomFillSync);
  const tenths = Array.from({ length: 10 }, () => 0);
  for (let i = 0; i < 100_000; i++) tenths[Math.floor(draw() * 10)]! += 1;
  // Ten standard deviations.
  for (const count of tenths) expect(Math.abs(count - 10_000)).toBeLessThan(950);
});
