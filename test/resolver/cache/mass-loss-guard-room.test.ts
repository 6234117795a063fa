/** The guard in the case for which it is there: nearly everything is lost at once. What is lost leaves its own room, and gives it to what comes (semantics.md, Resolver 22). */
import { expect, test } from "vitest";
import { BODY, type KeyText, KIND, keyText } from "../../../src/catalog/record/record.ts";
import { ResolverWorld } from "../../fakes/resolver-world.ts";

const SECOND = 1000;
const EXPIRED = BODY.EXPIRED;

function name(namespace: string, of: string) {
  return { kind: KIND.SERVICE, namespace, name: of };
}

/** Instances of some names in turns: the first of each name, then the second of each. */
function keys(nameCount: number, instanceCount: number, { namespace = "svc", from = 0 } = {}): readonly KeyText[] {
  return Array.from({ length: nameCount * instanceCount }, (_, i) =>
    keyText({ ...name(namespace, `db${i % nameCount}`), instanceId: String(from + Math.floor(i / nameCount)), clusterId: "c1" }),
  );
}

function followed(list: readonly KeyText[], options: object): ResolverWorld {
  const world = new ResolverWorld(["a"], options);
  for (const key of list) world.put("a", key);
  world.run(2 * SECOND);
  return world;
}

function lose(world: ResolverWorld, list: readonly KeyText[]): void {
  for (const key of list) world.end("a", key, EXPIRED);
  world.run(2 * SECOND);
}

function counts(world: ResolverWorld) {
  const { heldCount, unheldCount, evictedCount } = world.machine.statistics(world.now);
  return { heldCount, unheldCount, evictedCount };
}

function sizeOf(world: ResolverWorld): number {
  return world.machine.statistics(world.now).sizeBytes;
}

test("when everything expires, one entry of each name after the other, all of it is held", () => {
  const list = keys(50, 6);
  const world = followed(list, { maxEntries: 300 });
  lose(world, list);
  expect(counts(world)).toEqual({ heldCount: 300, unheldCount: 0, evictedCount: 0 });
  for (let n = 0; n < 50; n++) expect(world.ask(name("svc", `db${n}`))).toBe("followed stale 6");
});

test("what was held of a namespace that is let go is not held when it is followed anew: nobody heard what became of it", () => {
  const list = keys(1, 5, { namespace: "asked" });
  const world = followed(list, { maxEntries: 300 });
  for (let i = 0; i < 5; i++) world.ask(name("asked", "db0"));
  world.run(2 * SECOND);
  lose(world, list.slice(0, 4));
  expect(world.ask(name("asked", "db0"))).toBe("followed stale 5");
  world.act("evict", "asked");
  world.run(2 * SECOND);
  for (const key of list.slice(0, 4)) world.end("a", key, BODY.UNREGISTERED);
  for (let i = 0; i < 5; i++) world.ask(name("asked", "db0"));
  world.run(2 * SECOND);
  expect([world.ask(name("asked", "db0")), counts(world).heldCount]).toEqual(["followed 1", 0]);
});

test("what comes back takes the room of what is held for longest, and nothing else goes for it or is refused", () => {
  const list = keys(20, 5);
  const world = followed(list, { maxEntries: 130 });
  for (const key of keys(1, 30, { namespace: "other" })) world.put("a", key);
  world.run(SECOND);
  world.ask(name("other", "db0"));
  lose(world, list);
  expect(counts(world)).toEqual({ heldCount: 100, unheldCount: 0, evictedCount: 0 });
  // As many as before, under other keys.
  const anew = keys(20, 5, { from: 5 });
  for (const key of anew.slice(0, 60)) world.put("a", key);
  world.run(2 * SECOND);
  expect(counts(world)).toEqual({ heldCount: 40, unheldCount: 60, evictedCount: 0 });
  for (const key of anew) world.put("a", key);
  world.run(2 * SECOND);
  expect(counts(world)).toEqual({ heldCount: 0, unheldCount: 100, evictedCount: 0 });
  expect([world.machine.isReady, world.ask(name("svc", "db3")), world.ask(name("other", "db0"))]).toEqual([
    true,
    "followed 5",
    "fetched 30",
  ]);
});

test("entries that are held or remembered count in the bound of bytes as they did when they were there, and are free when they go", () => {
  const list = keys(20, 5);
  const empty = sizeOf(followed([], {}));
  const world = followed(list, {});
  const sizeBytes = sizeOf(world);
  // One of each name: it is remembered, and not held.
  lose(world, list.slice(0, 20));
  expect([counts(world).heldCount, sizeOf(world)]).toEqual([0, sizeBytes]);
  lose(world, list);
  expect([counts(world).heldCount, sizeOf(world)]).toEqual([100, sizeBytes]);
  world.run(301 * SECOND, SECOND);
  expect([counts(world).heldCount, sizeOf(world)]).toEqual([0, empty]);
});

test("a watch that does not fit takes nothing of what is held", () => {
  const list = keys(20, 5);
  const world = followed(list, { maxEntries: 130 });
  lose(world, list);
  for (const key of keys(20, 7, { namespace: "large" })) world.put("a", key);
  world.machine.following.watch("large");
  world.run(2 * SECOND);
  expect([world.machine.following.isRefused("large"), counts(world).heldCount]).toEqual([true, 100]);
});
