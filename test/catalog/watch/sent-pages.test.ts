import { expect, test } from "vitest";
import { SentPages } from "../../../src/catalog/watch/sent-pages.ts";

const FRESH = { from: 0, settled: 0 };

test("a key was told of when the page that covers it was made; above the last page nothing is said", () => {
  const told = new SentPages();
  told.add("c", 5);
  told.add("f", 5);
  told.add("k", 9);
  expect(["a", "c", "f", "g", "k"].map((key) => told.of(key, FRESH)?.settled)).toEqual([5, 5, 5, 9, 9]);
  expect(told.of("z", FRESH)).toBeUndefined();
});

test("what has been told since widens where the reader stands, until it was told of everything", () => {
  const told = new SentPages();
  told.add("c", 5);
  expect(told.of("a", { from: 5, settled: 1 })).toMatchObject({ settled: 5, until: 5 });
  expect(told.of("a", { from: 7, settled: 1 })).toEqual({ settled: 5, until: 7 });
  expect(told.of("a", { from: 8, settled: 8 })).toBeUndefined();
});

test("more pages than are remembered are remembered less sharply, never wrongly", () => {
  const told = new SentPages(4);
  const keys = Array.from({ length: 50 }, (_, i) => `k${String(i).padStart(3, "0")}`);
  keys.forEach((key, i) => told.add(key, i + 1));
  keys.forEach((key, i) => {
    const { settled, until } = told.of(key, FRESH)!;
    expect([settled <= i + 1, until >= i + 1]).toEqual([true, true]);
  });
  expect(new Set(keys.map((key) => told.of(key, FRESH)?.settled)).size).toBeLessThanOrEqual(4);
});
