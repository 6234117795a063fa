import { randomFillSync } from "node:crypto";
import { expect, test } from "vitest";
import { draws } from "../../src/lib/draws.ts";

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
