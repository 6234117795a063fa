/** What tombstones leave behind (semantics.md, Tombstones). */
import { expect, test } from "vitest";
import { BODY, type KeyText } from "../../../src/catalog/record/record.ts";
import { startNewGeneration } from "../../../src/catalog/replica/new-generation.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";

const WALL = 1_760_000_000_000;
const DAY_MS = 86_400_000;
const time = (monoMs: number) => ({ monoMs, wallMs: WALL + monoMs });

test.each([
  ["in step", "age"],
  ["while somebody is away", "count"],
] as const)(
  "an end stamped by a clock a day ahead, %s, keeps what its origin unregistered: an older record that comes late stays hidden",
  (_, by) => {
    const [a, b, c] = [new FabricComponent("a"), new FabricComponent("b"), new FabricComponent("c")];
    const [key] = KEYS;
    if (key === undefined) throw new Error("there are keys");
    b.put(key, 0, time(1));
    b.commit(time(1));
    a.put(key, 0, time(2));
    a.commit(time(2));
    a.end(key, BODY.UNREGISTERED, time(3));
    a.commit(time(3));
    a.replica.collect(time(4), 10, by);
    a.put(key, 1, time(5), (WALL + DAY_MS) * 2048);
    a.commit(time(5));
    a.end(key, BODY.EXPIRED, { monoMs: 6, wallMs: WALL + DAY_MS + 6 });
    a.commit(time(6));
    // Only the newest record of a key is told.
    c.copy(a, "a/1", time(7));
    c.copy(b, "b/1", time(8));
    expect(c.replica.view(key)).toBeUndefined();
  },
);

test("a key without a record carries nothing", () => {
  const [node, [key]] = [new FabricComponent("a"), KEYS];
  if (key === undefined) throw new Error("there are keys");
  expect(node.put(key, 0, time(1)).unregisteredHlc).toBeUndefined();
});

/** `c` has forgotten `a`, knows which keys that had, and takes from `b` what that put and unregistered under others meanwhile. */
function afterLoss(lostKeys: readonly KeyText[]) {
  const [a, b, c] = [new FabricComponent("a"), new FabricComponent("b"), new FabricComponent("c")];
  for (const key of lostKeys) a.put(key, 0, time(1));
  a.commit(time(1));
  c.copy(a, "a/1", time(2));
  const origin = c.replica.origins.get("a/1");
  if (origin === undefined) throw new Error("c knows a");
  c.replica.forgetOrigin(origin, time(3));
  const unregister = (keys: readonly KeyText[], monoMs: number) => {
    for (const key of keys) {
      b.put(key, 0, time(monoMs));
      b.end(key, BODY.UNREGISTERED, time(monoMs));
    }
    b.commit(time(monoMs));
    c.copy(b, "b/1", time(monoMs));
  };
  return { a, c, unregister };
}

test("while an origin is lost any tombstone is kept beyond its ttl where there is room: what it wrote unheard comes back with it, and stays gone", () => {
  const { a, c, unregister } = afterLoss(KEYS.slice(0, 1));
  const key = KEYS[1]!;
  a.put(key, 0, time(4));
  a.commit(time(4));
  unregister([key], 5);
  c.collect(time(60_000));
  expect(c.replica.tombstoneCount).toBe(1);
  c.replica.restoreOrigin("a", 1);
  c.copy(a, "a/1", time(60_001));
  expect([c.replica.view(KEYS[0]!)?.origin.id, c.replica.view(key)]).toEqual(["a/1", undefined]);
});

test("without room nothing is marked as long as other tombstones can go, however often it is looked for some", () => {
  const { c, unregister } = afterLoss(KEYS.slice(0, 4));
  unregister(KEYS.slice(0, 4), 5);
  for (let n = 0; n < 20; n++) {
    unregister(KEYS.slice(5, 6), 10 + n);
    c.collect(time(10 + n));
  }
  expect([c.replica.tombstoneCount, c.replica.lost.markOf("a/1")]).toEqual([4, 0]);
});

test.each(["age", "count"] as const)(
  "an end by %s that a later generation of a node says is kept while what an earlier one said is held: it would be shown again as an orphan",
  (by) => {
    const [a, c] = [new FabricComponent("a"), new FabricComponent("c")];
    const key = KEYS[0]!;
    a.put(key, 0, time(1));
    a.commit(time(1));
    c.copy(a, "a/1", time(2));
    startNewGeneration(a.replica, 2);
    a.end(key, BODY.EXPIRED, time(3));
    a.commit(time(3));
    c.copy(a, "a/2", time(4));
    c.setLife("a/1", "orphaned");
    expect(c.replica.view(key)).toBeUndefined();
    // More tombstones than there is room for.
    for (const other of KEYS.slice(4, 12)) {
      a.put(other, 0, time(5));
      a.end(other, BODY.EXPIRED, time(5));
    }
    a.commit(time(5));
    c.copy(a, "a/2", time(5));
    c.collect(time(60_000), 100, by);
    expect([c.replica.view(key), c.replica.records(key).length]).toEqual([undefined, 2]);
    expect(c.replica.tombstoneCount).toBeLessThan(9);
  },
);

test("what is kept beyond its ttl is looked at again after another ttl, and not all the time", () => {
  const [a, b] = [new FabricComponent("a"), new FabricComponent("b")];
  const key = KEYS[0]!;
  a.put(key, 0, time(1));
  a.commit(time(1));
  b.copy(a, "a/1", time(2));
  b.end(key, BODY.UNREGISTERED, time(3));
  b.commit(time(3));
  const ttlMs = b.replica.nextCollectMonoMs() - 3;
  b.collect(time(3 + ttlMs));
  expect([b.replica.tombstoneCount, b.replica.nextCollectMonoMs()]).toEqual([1, 3 + 2 * ttlMs]);
});
