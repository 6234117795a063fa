/** The bounds of a resolver: what is configured or watched stays, the least asked goes, and what does not fit is refused, and said. */
import { expect, test } from "vitest";
import type { InstanceName } from "../../../src/catalog/query/instances.ts";
import { type KeyText, KIND, keyText } from "../../../src/catalog/record/record.ts";
import { ResolverWorld } from "../../fakes/resolver-world.ts";

const SECOND = 1000;
const MINUTE = 60 * SECOND;

function name(namespace: string, of = "db"): InstanceName {
  return { kind: KIND.SERVICE, namespace, name: of };
}

function keys(namespace: string, count: number, of = "db"): readonly KeyText[] {
  return Array.from({ length: count }, (_, i) => keyText({ ...name(namespace, of), instanceId: String(i), clusterId: "c1" }));
}

function putAll(world: ResolverWorld, list: readonly KeyText[]): void {
  for (const key of list) world.put("a", key);
}

/** A resolver that follows 10 entries of `svc`, between servers that have more. */
function started(options = {}): ResolverWorld {
  const world = new ResolverWorld(["a"], { maxEntries: 40, ...options });
  for (const namespace of ["svc", "small", "other"]) putAll(world, keys(namespace, 10));
  putAll(world, keys("large", 60));
  world.run(2 * SECOND);
  return world;
}

function askOften(world: ResolverWorld, namespace: string, times: number): void {
  for (let n = 0; n < times; n++) world.ask(name(namespace));
}

function heldOf(world: ResolverWorld): number {
  return world.replica.recordCount - world.replica.tombstoneCount;
}

test("a namespace that is asked for often and does not fit is not followed, and what is configured stays", () => {
  const world = started();
  askOften(world, "large", 10);
  world.run(2 * SECOND);
  expect([world.machine.following.prefixes.list, heldOf(world)]).toEqual([["svc"], 10]);
  expect([world.ask(name("svc")), world.machine.isReady, world.machine.fault]).toEqual(["followed 10", true, undefined]);
  // It is left alone for a minute, and then tried again.
  const { watchCount } = world.server("a");
  askOften(world, "large", 10);
  world.run(SECOND);
  expect(world.server("a").watchCount).toBe(watchCount);
});

test.each([
  { what: "alone", namespaces: ["large"], maxEntries: 40 },
  { what: "beside others that fit, of which none is followed then", namespaces: ["other", "large"], maxEntries: 40 },
  { what: "because all together are too much", namespaces: ["other", "small"], maxEntries: 25 },
])("a prewarm that does not fit is refused, $what", ({ namespaces, maxEntries }) => {
  const world = started({ maxEntries });
  const told = world.act("prewarm", ...namespaces);
  world.run(10 * SECOND);
  expect([told, world.machine.following.prefixes.list, heldOf(world)]).toEqual([["quota_exceeded"], ["svc"], 10]);
  expect(world.act("prewarm", "svc")).toEqual([10]);
});

test("what an operator lets go while it is prewarmed is not reported as there", () => {
  const world = started();
  Object.assign(world.server("a"), { isSilent: true });
  const told = world.act("prewarm", "small");
  expect([told, world.act("evict", "small")]).toEqual([["not_ready"], [0]]);
});

test("of two that do not fit both the one that is asked for less is let go", () => {
  const world = started({ maxEntries: 55 });
  putAll(world, keys("svc", 40));
  askOften(world, "small", 40);
  world.run(2 * SECOND);
  askOften(world, "other", 6);
  world.run(2 * SECOND);
  expect(world.machine.following.prefixes.list).toEqual(["small", "svc"]);
  expect(heldOf(world)).toBe(50);
  askOften(world, "other", 200);
  world.run(MINUTE);
  askOften(world, "other", 10);
  world.run(2 * SECOND);
  expect(world.machine.following.prefixes.list).toEqual(["other", "svc"]);
});

test("what was fetched, and is asked for less, makes room for what is followed; what is asked for more does not", () => {
  const world = started({ maxEntries: 55 });
  putAll(world, keys("svc", 40));
  putAll(world, keys("rare", 15));
  world.run(SECOND);
  expect([world.ask(name("rare")), world.ask(name("rare"))]).toEqual(["told", "fetched 15"]);
  askOften(world, "small", 30);
  world.run(2 * SECOND);
  expect([world.ask(name("small")), world.ask(name("rare")), heldOf(world)]).toEqual(["followed 10", "told", 50]);
  expect(world.ask(name("rare"))).toBe("told");
});

test("while fetched answers find no room, what is followed for being asked for takes a quarter of it, those that are asked for most", () => {
  const world = started({ maxEntries: 135 });
  const asked = Array.from({ length: 6 }, (_, i) => `asked-${i}`);
  for (const namespace of asked) putAll(world, keys(namespace, 10));
  for (const [i, namespace] of asked.entries()) askOften(world, namespace, 10 + i);
  world.run(2 * SECOND);
  expect(world.machine.following.prefixes.list).toEqual([...asked, "svc"]);
  for (let i = 0; i < 10; i++) putAll(world, keys("far", 10, `name-${i}`));
  world.run(SECOND);
  for (let i = 0; i < 10; i++) world.ask(name("far", `name-${i}`));
  world.run(2 * SECOND);
  expect(world.machine.following.prefixes.list).toEqual(["asked-3", "asked-4", "asked-5", "svc"]);
});

test("a namespace that is followed for being asked for counts with all that lies below it", () => {
  const world = started({ maxEntries: 100 });
  putAll(world, keys("eu", 5));
  putAll(world, keys("eu.deep", 45));
  world.run(SECOND);
  askOften(world, "eu", 20);
  world.run(2 * SECOND);
  expect([world.machine.following.prefixes.list, heldOf(world)]).toEqual([["eu", "svc"], 60]);
  for (let i = 0; i < 10; i++) putAll(world, keys("far", 10, `name-${i}`));
  world.run(SECOND);
  for (let i = 0; i < 10; i++) world.ask(name("far", `name-${i}`));
  world.run(2 * SECOND);
  expect(world.machine.following.prefixes.list).toEqual(["svc"]);
});

test("what was fetched of a namespace that is followed now goes before other fetched answers, however often it was asked for", () => {
  const world = started({ maxEntries: 45 });
  putAll(world, keys("rare", 10));
  world.run(SECOND);
  askOften(world, "small", 10);
  world.run(2 * SECOND);
  expect(world.ask(name("small"))).toBe("followed 10");
  world.ask(name("other"));
  world.ask(name("rare"));
  expect([world.ask(name("other")), world.ask(name("rare")), world.ask(name("small"))]).toEqual([
    "fetched 10",
    "fetched 10",
    "followed 10",
  ]);
});

test("what was fetched of a namespace that is followed now goes before anything that is followed, where what is configured grows", () => {
  const world = started({ maxEntries: 65 });
  askOften(world, "other", 8);
  askOften(world, "small", 40);
  world.run(2 * SECOND);
  expect([world.machine.following.prefixes.list, heldOf(world)]).toEqual([["other", "small", "svc"], 30]);
  // The copies of both are here too.
  putAll(world, keys("svc", 40));
  world.run(2 * SECOND);
  expect([world.machine.following.prefixes.list, heldOf(world)]).toEqual([["other", "small", "svc"], 60]);
});

test("what was fetched and is asked for more makes no room for what is asked for less", () => {
  const world = started({ maxEntries: 25 });
  putAll(world, keys("large", 10, "one"));
  world.run(SECOND);
  for (let n = 0; n < 60; n++) world.ask(name("large", "one"));
  world.run(2 * SECOND);
  world.ask(name("large", "one"));
  askOften(world, "small", 5);
  world.run(2 * SECOND);
  expect([world.machine.following.prefixes.list, heldOf(world)]).toEqual([["svc"], 10]);
  expect(world.ask(name("large", "one"))).toBe("fetched 10");
});

test("what callers watch from the start, and does not fit, keeps nothing else from being followed", () => {
  const world = new ResolverWorld(["a"], { maxEntries: 40 });
  putAll(world, keys("svc", 10));
  putAll(world, keys("large", 60));
  world.machine.following.watch("large");
  world.run(2 * SECOND);
  expect([world.machine.isReady, world.machine.following.prefixes.list, heldOf(world)]).toEqual([true, ["svc"], 10]);
});

test("a single entry too many is too many", () => {
  const world = started({ maxEntries: 10 });
  expect(world.machine.isReady).toBe(true);
  putAll(world, keys("svc", 11));
  world.run(2 * SECOND);
  expect([world.machine.isReady, world.machine.fault === undefined]).toEqual([false, false]);
});

test("what a caller watches takes the room of what is only asked for; what does not fit at all is refused for a minute", () => {
  const world = started({ maxEntries: 25 });
  askOften(world, "small", 40);
  world.run(2 * SECOND);
  const { following } = world.machine;
  following.watch("other");
  world.run(2 * SECOND);
  expect([following.prefixes.list, world.ask(name("other"))]).toEqual([["other", "svc"], "followed 10"]);
  following.watch("large");
  world.run(2 * SECOND);
  expect([following.prefixes.list, following.isRefused("large"), following.isRefused("other")]).toEqual([["other", "svc"], true, false]);
  expect(() => following.watch("large")).toThrow(/quota_exceeded.*entries below "large" do not fit/);
  following.unwatch("large");
  world.run(61 * SECOND);
  expect([following.isRefused("large"), heldOf(world), world.machine.isReady]).toEqual([false, 20, true]);
});

/** Notes from now on how much is held of what is followed, before each message, and how many come. */
function noted(world: ResolverWorld): { most: number; messageCount: number } {
  const notes = { most: 0, messageCount: 0 };
  world.server("a").garble = (bytes) => {
    notes.most = Math.max(notes.most, heldOf(world));
    notes.messageCount += 1;
    return bytes;
  };
  return notes;
}

test.each<{ what: string; namespaces: readonly string[]; others: number }>([
  { what: "beside what is followed", namespaces: ["svc"], others: 20 },
  { what: "where nothing else is followed", namespaces: [], others: 0 },
])("a watch that does not fit is refused before anything has gone for it, $what", ({ namespaces, others }) => {
  const world = started({ maxEntries: 55, namespaces });
  putAll(world, keys("rare", 15));
  if (others > 0) askOften(world, "small", 5);
  world.run(2 * SECOND);
  expect([world.ask(name("rare")), heldOf(world)]).toEqual(["told", others]);
  const notes = noted(world);
  const { following } = world.machine;
  following.watch("large");
  world.run(2 * SECOND);
  expect(following.isRefused("large")).toBe(true);
  expect([world.machine.statistics(world.now).evictedCount, world.ask(name("rare")), heldOf(world)]).toEqual([0, "fetched 15", others]);
  expect(notes.most).toBeLessThanOrEqual(40);
  expect(world.machine.isReady).toBe(true);
});

test("a watch that fits when others go is counted first, and then takes no more than it needs", () => {
  const world = started({ maxEntries: 80 });
  const rare = ["one", "two", "three", "four"];
  for (const namespace of rare) putAll(world, keys(namespace, 5));
  world.run(SECOND);
  for (const namespace of rare) world.ask(name(namespace));
  const notes = noted(world);
  const { snapshotCount } = world.server("a");
  world.machine.following.watch("large");
  world.run(2 * SECOND);
  expect([world.ask(name("large")), heldOf(world), world.machine.statistics(world.now).evictedCount]).toEqual(["followed 60", 70, 2]);
  expect([world.server("a").snapshotCount - snapshotCount, notes.most <= 70]).toEqual([2, true]);
});

test("of several watches that arrive together those that fit are followed, the oldest first, and nothing goes for the others", () => {
  const world = started({ maxEntries: 40 });
  for (const namespace of ["early", "late"]) putAll(world, keys(namespace, 15));
  putAll(world, keys("rare", 3));
  world.run(SECOND);
  world.ask(name("rare"));
  const { following } = world.machine;
  for (const prefix of ["small", "large", "early", "late"]) following.watch(prefix);
  world.run(3 * SECOND);
  expect(following.prefixes.list).toEqual(["early", "small", "svc"]);
  expect(["small", "large", "early", "late"].map((prefix) => following.isRefused(prefix))).toEqual([false, true, false, true]);
  expect([heldOf(world), world.ask(name("rare"))]).toEqual([35, "fetched 3"]);
});

test("what is far too large is not counted to its end", () => {
  const world = started();
  putAll(world, keys("vast", 300));
  world.run(SECOND);
  const notes = noted(world);
  world.machine.following.watch("vast");
  world.run(SECOND);
  expect([world.machine.following.isRefused("vast"), notes.messageCount < 12]).toEqual([true, true]);
});

test("a resync that waits for a watch to arrive keeps nothing from being refused", () => {
  const world = started({ maxEntries: 55 });
  const { following } = world.machine;
  following.watch("large");
  const notes = noted(world);
  const { garble } = world.server("a");
  let told: readonly (number | string)[] | undefined;
  world.server("a").garble = (bytes) => {
    told ??= world.act("resync", "svc");
    return garble(bytes);
  };
  world.run(2 * SECOND);
  expect([following.isRefused("large"), heldOf(world), told, notes.most <= 55]).toEqual([true, 10, [10], true]);
});

test("what is asked for often takes the place of nothing that is asked for more, however little of it has arrived", () => {
  const world = started({ maxEntries: 100 });
  const rare = Array.from({ length: 40 }, (_, i) => `rare-${i}`);
  for (const namespace of rare) putAll(world, keys(namespace, 2));
  putAll(world, keys("wide", 90, "many"));
  world.run(SECOND);
  for (let n = 0; n < 3; n++) for (const namespace of rare) world.ask(name(namespace));
  askOften(world, "wide", 120);
  world.run(2 * SECOND);
  expect(world.machine.following.prefixes.list).not.toContain("wide");
  expect(world.machine.statistics(world.now).evictedCount).toBe(0);
});

test("when what is configured does not fit it is not ready, says why, holds nothing of it, and is ready when it fits", () => {
  const world = new ResolverWorld(["a"], { maxEntries: 40 });
  const list = keys("svc", 60);
  putAll(world, list);
  let most = 0;
  for (let n = 0; n < 30; n++) {
    world.run(SECOND);
    most = Math.max(most, heldOf(world));
  }
  expect([world.machine.isReady, world.machine.fault, world.ask(name("svc"))]).toEqual([
    false,
    "the entries of resolver.namespaces do not fit: raise resolver.max_entries (40) or resolver.max_bytes (100000000), or follow fewer namespaces",
    "told",
  ]);
  // One snapshot, and not one after the other.
  expect([most, heldOf(world), world.server("a").snapshotCount]).toEqual([0, 0, 1]);
  for (const key of list.slice(30)) world.end("a", key, 1);
  world.run(2 * MINUTE, SECOND);
  expect([world.machine.isReady, world.machine.fault, world.ask(name("svc"))]).toEqual([true, undefined, "followed 30"]);
});

test("when what is configured grows beyond the bound, what is held stays as it was, and is stale", () => {
  const world = started();
  putAll(world, keys("svc", 60));
  world.run(10 * SECOND);
  expect([world.machine.isReady, world.machine.fault === undefined]).toEqual([false, false]);
  expect(world.ask(name("svc"))).toMatch(/^followed stale/);
  expect(heldOf(world)).toBeLessThan(60);
  for (const key of keys("svc", 60).slice(5)) world.end("a", key, 2);
  world.run(3 * MINUTE, SECOND);
  expect([world.machine.isReady, world.ask(name("svc")), world.server("a").snapshotCount]).toEqual([true, "followed 5", 1]);
});

test("a bound of bytes counts bookkeeping, and holds for what is followed", () => {
  const world = started({ maxEntries: 10_000, maxBytes: 500_000 });
  for (let n = 0; n < 3; n++) putAll(world, keys("huge", 250, `n${n}`));
  world.run(SECOND);
  askOften(world, "huge", 10);
  world.run(3 * SECOND);
  expect([world.machine.following.prefixes.list, heldOf(world), world.ask(name("svc"))]).toEqual([["svc"], 10, "followed 10"]);
});

test("a namespace that nobody asks for any more is let go", () => {
  const world = started();
  askOften(world, "small", 5);
  world.run(2 * SECOND);
  expect(world.ask(name("small"))).toBe("followed 10");
  world.run(11 * MINUTE, SECOND);
  expect([world.machine.following.prefixes.list, heldOf(world)]).toEqual([["svc"], 10]);
});
