/** Entries that lookups only held are held on after a restart, for the rest of their time and no longer (semantics.md, Resolver 16 and 18). */
import { beforeEach, expect, test } from "vitest";
import type { InstanceName } from "../../src/catalog/query/instances.ts";
import { BODY, type CatalogRecord, KIND, keyParts, viewHealth } from "../../src/catalog/record/record.ts";
import { StoredRecord } from "../../src/catalog/record/stored-record.ts";
import { KEYS } from "../fakes/mesh.ts";
import { ResolverWorld } from "../fakes/resolver-world.ts";

const DB: InstanceName = { kind: KIND.SERVICE, namespace: "svc", name: "db" };
const EU: InstanceName = { ...DB, namespace: "svc.eu" };
const SECOND = 1000;
const HOUR = 3600 * SECOND;
const HOLD_MS = 300 * SECOND;
const SERVERS = ["a", "b"];

function key(n: number | string, of = KEYS[0]!): string {
  return of.replace("\u00001\u0000c1", `\u0000${n}\u0000c1`);
}

/** All that lookups of the namespace find. */
function recordsOf(world: ResolverWorld, namespace: string): readonly CatalogRecord[] {
  return world.machine
    .lookupsOf(namespace)
    .flatMap(({ all }) => Array.from({ length: all.blockCount }, (_, i) => all.block(i)))
    .flat();
}

/** The instances of the name that lookups show, and of those the ones that are held. */
function shown(world: ResolverWorld, name = DB): { readonly all: readonly string[]; readonly held: readonly string[] } {
  const records = recordsOf(world, name.namespace);
  const ofName = records.filter((record) => record.namespace === name.namespace && record.name === name.name);
  const idsOf = (some: typeof ofName) => some.map((record) => keyParts(record.key).instanceId).toSorted();
  return { all: idsOf(ofName), held: idsOf(ofName.filter((record) => viewHealth(record) === 5)) };
}

function down(world: ResolverWorld): void {
  for (const name of SERVERS) world.server(name).isUp = false;
}

/** Lets all but 100 ms of this time pass, and then these; gives how many are held after each. */
function heldAround(world: ResolverWorld, ms: number): readonly number[] {
  world.run(Math.floor(ms / SECOND - 1) * SECOND, SECOND);
  world.run(SECOND + (ms % SECOND) - 100);
  const before = shown(world).held.length;
  world.run(200);
  return [before, shown(world).held.length];
}

let world: ResolverWorld;
/** 1 to 3 are held, and 4 is followed. */
beforeEach(() => {
  world = new ResolverWorld(SERVERS);
  for (const n of [1, 2, 3]) world.put("a", key(n), n);
  world.put("b", key(4));
  world.run(2 * SECOND);
  for (const n of [1, 2, 3]) world.end("a", key(n), BODY.EXPIRED);
  world.run(SECOND);
});

test("a restart with every server gone serves what was held as it was, until its hold would have ended", () => {
  // It began with a tick of the second before.
  const [before, leftMs] = [world.instances(DB), HOLD_MS - 900];
  expect(shown(world)).toEqual({ all: ["1", "2", "3", "4"], held: ["1", "2", "3"] });
  const copy = world.copy();
  down(world);
  expect(world.restart(copy, { downMs: 60 * SECOND })).toMatchObject({ ok: true, entryCount: 1 });
  expect([world.ask(DB), world.instances(DB)]).toEqual(["disk stale 4", before]);
  expect(heldAround(world, leftMs - 60 * SECOND)).toEqual([3, 0]);
  expect(shown(world).all).toEqual(["4"]);
});

test.each([
  { what: "a clock that was set back while it was away", restart: { downMs: 60 * SECOND, clockMs: -HOUR }, leftMs: HOLD_MS - 900 },
  { what: "one that was set back a little", restart: { downMs: 60 * SECOND, clockMs: -60 * SECOND }, leftMs: HOLD_MS - 900 },
  { what: "a shorter resolver.guard_hold", restart: { options: { guardHoldMs: 10 * SECOND } }, leftMs: 10 * SECOND },
  { what: "a longer one", restart: { options: { guardHoldMs: HOUR } }, leftMs: HOLD_MS - 900 },
])("$what makes no hold longer", ({ restart, leftMs }) => {
  const copy = world.copy();
  down(world);
  world.restart(copy, restart);
  expect(heldAround(world, leftMs)).toEqual([3, 0]);
});

test.each([
  { what: "was away for longer", restart: { downMs: HOLD_MS } },
  { what: "finds a clock that was set forward", restart: { clockMs: HOUR } },
])("who $what holds nothing", ({ restart }) => {
  const copy = world.copy();
  down(world);
  world.restart(copy, restart);
  expect([shown(world), world.machine.statistics(world.now).heldCount]).toEqual([{ all: ["4"], held: [] }, 0]);
});

test("a copy of a restart has what is left of each hold, which may have begun at other times", () => {
  world.run(60 * SECOND);
  for (const n of [1, 2, 3]) world.put("a", key(n, KEYS[4]));
  world.run(2 * SECOND);
  for (const n of [1, 2, 3]) world.end("a", key(n, KEYS[4]), BODY.EXPIRED);
  world.run(SECOND);
  down(world);
  for (let i = 0; i < 3; i++) {
    world.restart(world.copy(), { downMs: 10 * SECOND });
    world.run(SECOND);
  }
  const leftMs = HOLD_MS - 900 - 96 * SECOND;
  expect(heldAround(world, leftMs)).toEqual([3, 0]);
  expect(shown(world, EU).held).toEqual(["1", "2", "3"]);
  world.run(63 * SECOND, SECOND);
  expect(shown(world, EU).held).toEqual([]);
});

test.each([
  { what: "goes on from its place", refusesPlaces: false },
  { what: "begins with a snapshot", refusesPlaces: true },
])("what a server that it reads lists is followed again, and what it says is unregistered is not held: it $what", ({ refusesPlaces }) => {
  const copy = world.copy();
  world.put("a", key(1), 1);
  if (!refusesPlaces) world.endAgain("a", key(2));
  for (const name of SERVERS) world.server(name).refusesPlaces = refusesPlaces;
  world.restart(copy);
  expect(shown(world).held).toEqual(["1", "2", "3"]);
  world.run(10 * SECOND);
  const left = refusesPlaces ? ["2", "3"] : ["3"];
  expect([shown(world), world.ask(DB)]).toEqual([{ all: ["1", ...left, "4"], held: left }, `followed stale ${left.length + 2}`]);
  world.run(HOLD_MS, SECOND);
  expect([shown(world), world.ask(DB)]).toEqual([{ all: ["1", "4"], held: [] }, "followed 2"]);
});

test("held entries of a copy are in no origin, digest or cursor, and the owners' rules are judged when they are read", () => {
  const copy = world.copy();
  down(world);
  world.restart(copy);
  const { replica, machine } = world;
  expect([...replica.origins.values()].map(({ nodeId }) => nodeId)).toEqual(["me", "b"]);
  expect([1, 2, 3].flatMap((n) => replica.records(key(n) as never))).toEqual([]);
  expect(machine.lookups.reduce((count, { size }) => count + size, 0)).toBe(1);
  const held = recordsOf(world, "svc").filter((record) => viewHealth(record) === 5);
  expect(held.map((record) => record instanceof StoredRecord)).toEqual([false, false, false]);
});

test("what is not followed any more is not held", () => {
  const copy = world.copy();
  world.restart(copy, { options: { namespaces: ["svc.eu"] } });
  expect(world.machine.statistics(world.now)).toMatchObject({ heldCount: 0, entryCount: 0 });
});

test("no more is held than the bounds of this resolver allow, and what is followed goes first", () => {
  const copy = world.copy();
  down(world);
  world.restart(copy, { options: { maxEntries: 3 } });
  expect([shown(world).held.length, world.machine.statistics(world.now)]).toEqual([2, expect.objectContaining({ unheldCount: 1 })]);
  const many = withMany();
  const large = many.copy();
  const counted = [200_000, 300_000, 1_000_000].map((maxBytes) => {
    const { ok } = many.restart(large, { options: { maxEntries: 10_000, maxBytes } });
    const { entryCount, heldCount, unheldCount } = many.machine.statistics(many.now);
    return [ok, entryCount, heldCount, unheldCount];
  });
  const some = Number(counted[1]?.[2]);
  expect(counted).toEqual([
    [false, 0, 0, 0],
    [true, 1, some, 600 - some],
    [true, 1, 600, 0],
  ]);
  expect([some > 0, some < 600]).toEqual([true, true]);
});

test("what is held is worth another copy, also when only its time is over", () => {
  down(world);
  world.run(SECOND);
  const [mark, revision] = [world.machine.copyMark, world.replica.revision];
  world.run(HOLD_MS, SECOND);
  expect([world.replica.revision, world.machine.copyMark === mark]).toEqual([revision, false]);
});

/** A world in which 600 entries of svc.eu are held. */
function withMany(): ResolverWorld {
  const many = new ResolverWorld(SERVERS, { maxEntries: 100_000 });
  const keys = Array.from({ length: 600 }, (_, i) => key(`x${i}`, KEYS[4]));
  for (const one of keys) many.put("a", one, 6);
  many.put("b", key(4, KEYS[4]));
  many.run(2 * SECOND);
  for (const one of keys) many.end("a", one, BODY.EXPIRED);
  many.run(2 * SECOND);
  return many;
}

test("each hold of a copy ends in its own time, also if a clock that was set back while it was made mixed up their order", () => {
  const many = withMany();
  let clockMs = 0;
  const now = () => {
    clockMs -= 10 * SECOND;
    return { ...many.now, wallMs: many.now.wallMs + clockMs };
  };
  const copy = Uint8Array.from(Buffer.concat([...many.machine.copy(now)]));
  down(many);
  many.restart(copy);
  many.run(HOLD_MS - 60 * SECOND, SECOND);
  const held = [0, 1, 2, 3, 4, 5].map(() => {
    many.run(10 * SECOND, SECOND);
    return shown(many, EU).held.length;
  });
  expect(held).toEqual(held.toSorted((a, b) => b - a));
  expect([new Set(held).size > 3, held.at(-1)]).toEqual([true, 0]);
});

test("what is held anew, let go or followed again while the copy is made is in it as it is at its end", () => {
  const many = withMany();
  const eu = (n: number) => key(`x${n}`, KEYS[4]);
  let turn = 0;
  const copy = many.copy(() => {
    turn += 1;
    // All of these are in the first block of held entries: 1 is unregistered, 2 is followed again, and 3 is held once more.
    if (turn === 4) {
      many.endAgain("a", eu(1));
      for (const n of [2, 3]) many.put("a", eu(n), n);
      for (const n of [1, 2, 3]) many.put("a", key(n), n + 1);
    }
    if (turn === 5) for (const one of [eu(3), key(2), key(3)]) many.end("a", one, BODY.EXPIRED);
    if (turn === 6) many.end("a", key(1), BODY.UNREGISTERED);
    if (turn < 8) many.run(SECOND);
  });
  expect(turn).toBeGreaterThan(8);
  const before = [DB, EU].map((name) => shown(many, name));
  expect(before.map(({ all, held }) => [all.length, held.length])).toEqual([
    [2, 2],
    [600, 598],
  ]);
  const lines = many.instances(DB);
  down(many);
  many.restart(copy);
  expect([[DB, EU].map((name) => shown(many, name)), many.instances(DB)]).toEqual([before, lines]);
});
