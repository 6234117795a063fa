/** Which namespaces a resolver follows. */
import { expect, test } from "vitest";
import { WatchSelection } from "../../../src/resolver/watching/watch-selection.ts";

function following(configured: readonly string[], maxWatches = 3, asks: Readonly<Record<string, number>> = {}): WatchSelection {
  return new WatchSelection({ configured, maxWatches, asksOf: (namespace) => asks[namespace] ?? 1 });
}

function ask(follows: WatchSelection, namespace: string, ...times: readonly number[]): void {
  for (const monoMs of times) follows.ask(namespace, monoMs);
}

test("what is configured is followed, with all below it, and stays", () => {
  const follows = following(["svc.market"]);
  expect(["svc.market", "svc.market.eu", "svc"].map((namespace) => follows.prefixes.covers(namespace))).toEqual([true, true, false]);
  follows.prune(1e9);
  expect([follows.prefixes.list, follows.isPinned("svc.market.eu")]).toEqual([["svc.market"], true]);
});

test.each([
  { what: "four times in 10 s is followed", times: [0, 4000, 8000, 10_000], want: ["a"] },
  { what: "three times is not", times: [0, 1, 2], want: [] },
  { what: "four times in more time is not", times: [0, 4000, 8000, 10_001], want: [] },
])("a namespace that is asked for $what", ({ times, want }) => {
  const follows = following([]);
  ask(follows, "a", ...times);
  expect(follows.prefixes.list).toEqual(want);
  expect(follows.isPinned("a")).toBe(false);
});

test("of more than may be followed the least asked goes, and none for one that is asked for less", () => {
  const follows = following(["c"], 3, { a: 9, b: 5, d: 7, e: 4 });
  for (const namespace of ["a", "b", "d", "e"]) ask(follows, namespace, 0, 1, 2, 3);
  expect(follows.prefixes.list).toEqual(["a", "c", "d"]);
});

test("what callers watch is followed while one of them watches, and takes the place of what is only asked for", () => {
  const follows = following(["c"], 2);
  ask(follows, "a", 0, 1, 2, 3);
  follows.watch("w");
  follows.watch("w");
  expect([follows.prefixes.list, follows.isPinned("w.x")]).toEqual([["c", "w"], true]);
  expect(() => follows.watch("v")).toThrow(/resolver\.max_watches is 2/);
  // Below what is followed anyhow there is nothing more to follow.
  follows.watch("c.d");
  follows.unwatch("c.d");
  follows.unwatch("w");
  expect(follows.prefixes.list).toEqual(["c", "w"]);
  follows.unwatch("w");
  expect(follows.prefixes.list).toEqual(["c"]);
});

test("what is watched below what is watched counts, since it stays when that ends; below what is configured it does not", () => {
  const follows = following(["c"], 3);
  for (const prefix of ["c.1", "c.2", "c.3", "w", "w.1"]) follows.watch(prefix);
  expect(follows.prefixes.list).toEqual(["c", "w"]);
  expect(() => follows.watch("w.2")).toThrow(/resolver\.max_watches is 3/);
  follows.unwatch("w");
  expect(follows.prefixes.list).toEqual(["c", "w.1"]);
  follows.watch("w.2");
  expect(follows.prefixes.list).toEqual(["c", "w.1", "w.2"]);
});

test("what is asked for often and watched as well counts once", () => {
  const follows = following([], 2);
  ask(follows, "a", 0, 1, 2, 3);
  follows.watch("a");
  follows.watch("b");
  expect(follows.prefixes.list).toEqual(["a", "b"]);
});

test("the watches of one caller take a quarter, of prefixes that nobody configured; a resolver has no share", () => {
  const follows = following(["c"], 8);
  for (const prefix of ["a", "b", "c.1", "c.2", "a"]) follows.watch(prefix, "ann");
  expect(() => follows.watch("d", "ann")).toThrow(/quota_exceeded.*2 namespaces.*resolver\.max_watches, which is 8/);
  follows.watch("d", "bob");
  // Also what others watch it may keep alone some day.
  expect(() => follows.watch("d", "ann")).toThrow(/quota_exceeded/);
  for (const prefix of ["e", "f", "g", "h"]) follows.watch(prefix);
  expect(follows.prefixes.list).toEqual(["a", "b", "c", "d", "e", "f", "g", "h"]);
  follows.unwatch("a", "ann");
  expect(() => follows.watch("d", "ann")).toThrow(/quota_exceeded/);
  follows.unwatch("a", "ann");
  follows.watch("d", "ann");
  follows.unwatch("d", "bob");
  expect(follows.prefixes.list).toContain("d");
});

test("where few are followed one caller has one of them", () => {
  const follows = following([], 2);
  follows.watch("a", "ann");
  expect(() => follows.watch("b", "ann")).toThrow(/quota_exceeded.* 1 namespace .*which is 2/);
  follows.watch("b", "bob");
});

test("what found no room is left alone for a minute", () => {
  const follows = following([]);
  ask(follows, "a", 0, 1, 2, 3);
  follows.hasNoRoom("a", 10);
  ask(follows, "a", 11, 12, 13, 14, 15);
  expect(follows.prefixes.list).toEqual([]);
  ask(follows, "a", 60_011, 60_012, 60_013, 60_014);
  expect(follows.prefixes.list).toEqual(["a"]);
});

test("what nobody asks for any more is let go", () => {
  const follows = following([]);
  ask(follows, "a", 0, 1, 2, 3);
  ask(follows, "b", 0, 1, 2, 3, 500);
  follows.prune(400);
  expect(follows.prefixes.list).toEqual(["b"]);
});

test("names without end take no memory without end", () => {
  const follows = following([]);
  for (let n = 0; n < 25_000; n++) follows.ask(`ns-${n}`, 0);
  ask(follows, "a", 0, 1, 2, 3);
  expect(follows.prefixes.list).toEqual(["a"]);
});
