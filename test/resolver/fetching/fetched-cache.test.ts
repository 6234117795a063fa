/** What a resolver fetched by name: found by lookups, within bounds, and let go without a trace. */
import { expect, test } from "vitest";
import { EntryStamper } from "../../../src/catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../../src/catalog/entry/names.ts";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import type { InstanceName } from "../../../src/catalog/query/instances.ts";
import { NamespacePrefixes } from "../../../src/catalog/query/prefixes.ts";
import { type KeyText, KIND, keyText, viewHealth } from "../../../src/catalog/record/record.ts";
import { Slab } from "../../../src/catalog/record/slab.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { BoundedCache } from "../../../src/resolver/cache/bounded-cache.ts";
import { FetchedCache, type FetchedName } from "../../../src/resolver/fetching/fetched-cache.ts";
import { DiscoveryBytes } from "../../../src/services/discovery/response-bytes.ts";
import { timeOf } from "../../fakes/history.ts";
import { FabricComponent } from "../../fakes/mesh.ts";

const TTLS = { zoneMs: 15_000, regionMs: 30_000, globalMs: 60_000, negativeMs: 10_000 };
const HOUR_MS = 3_600_000;
const DB: InstanceName = { kind: KIND.SERVICE, namespace: "svc", name: "db" };
/** The variant of an entry with the scope REGION. */
const REGIONAL = 5;

class World {
  readonly node = new FabricComponent("n");
  readonly slab = new Slab();
  readonly cache: BoundedCache<FetchedName>;
  readonly fetched: FetchedCache;

  constructor(maxEntries = 100) {
    this.cache = new BoundedCache({
      maxEntries,
      maxBytes: 10_000_000,
      worthOf: ({ content }) => Number(content.length > 0),
      onEvicted: (_, name) => this.fetched.evicted(name),
      random: () => 0,
    });
    const stamper = new EntryStamper({ bounds: PROTOCOL_BOUNDS, traits: new TraitsPool() });
    this.fetched = new FetchedCache({ slab: this.slab, stamper, cache: this.cache, ttls: TTLS, maxStaleMs: HOUR_MS });
  }

  /** Entries of the name as a node sends them, one for each variant. */
  sent(name: InstanceName, ...variants: readonly number[]): readonly Uint8Array[] {
    const bytes = new DiscoveryBytes(this.node.replica.slab, { of: () => undefined });
    return variants.map((variant, i) => {
      const key = keyOf(name, i);
      this.node.put(key, variant, timeOf(0, 0));
      this.node.commit(timeOf(0, 0));
      return bytes.entry(this.node.replica.view(key)!);
    });
  }

  arrive(name: InstanceName, entries: readonly Uint8Array[], monoMs = 0): void {
    this.fetched.wait(name, () => {});
    this.fetched.arrived(name, entries, { ageMs: 5, isStale: false }, at(monoMs));
  }

  kept(): { readonly nameCount: number; readonly entryCount: number } {
    const names = [...this.cache.items()].map(([, { content }]) => content.length);
    return { nameCount: names.length, entryCount: names.reduce((sum, count) => sum + count, 0) };
  }

  ask(name: InstanceName, monoMs: number, cutOffMonoMs?: number) {
    const known = this.fetched.ask(name, at(monoMs), cutOffMonoMs);
    return known.state === "miss" ? "miss" : `${known.state} ${known.name.content.length} ${known.ageMs}`;
  }
}

function keyOf({ kind, namespace, name }: InstanceName, i: number): KeyText {
  return keyText({ kind, namespace, name, instanceId: `${i}`, clusterId: "c1" });
}

function at(monoMs: number) {
  return { monoMs, wallMs: 0 };
}

test("an answer is kept with all that its entries say, for the TTL of the narrowest scope in it", () => {
  const world = new World();
  expect(world.ask(DB, 0)).toBe("miss");
  world.arrive(DB, world.sent(DB, 0, REGIONAL));
  expect([0, 14_999, 15_000, 45_000].map((monoMs) => world.ask(DB, monoMs))).toEqual([
    "fresh 2 5",
    "fresh 2 15004",
    "stale 2 15005",
    "miss",
  ]);
  const record = world.fetched.lookup.find(keyOf(DB, 1))!;
  expect([record.scope, record.traits.tags, viewHealth(record)]).toEqual([SCOPE.REGION, ["blue"], 1]);
  expect(world.ask(DB, 45_000, 0)).toBe("stale 2 45005");
});

test("an entry whose node is away is so in the answer, and its bytes are those that the node stored", () => {
  const world = new World();
  const [stored] = world.sent(DB, 0);
  const shown = Buffer.concat([stored!, new Uint8Array([healthTag(), 5])]);
  world.arrive(DB, [shown]);
  const record = world.fetched.lookup.find(keyOf(DB, 0))!;
  expect(viewHealth(record)).toBe(5);
  expect(Buffer.from(world.slab.view(record.at, record.sizeBytes))).toEqual(Buffer.from(stored!));
});

/** The tag of `health`, as it stands in the bytes of an entry whose node is away. */
function healthTag(): number {
  const node = new FabricComponent("m");
  const other = new FabricComponent("o");
  other.put(keyOf(DB, 0), 0, timeOf(0, 0));
  other.commit(timeOf(0, 0));
  node.copy(other, "o/1", timeOf(0, 0));
  node.setLife("o/1", "orphaned");
  return new DiscoveryBytes(node.replica.slab, { of: () => undefined }).entry(node.replica.view(keyOf(DB, 0))!).at(-2)!;
}

test("another answer takes the place of the one before, and nothing is left behind", () => {
  const world = new World();
  world.arrive(DB, world.sent(DB, 0, 1, 2));
  world.arrive(DB, world.sent(DB, 0));
  expect([world.fetched.lookup.size, world.kept().entryCount, world.ask(DB, 0)]).toEqual([1, 1, "fresh 1 5"]);
  world.fetched.drop(new NamespacePrefixes(["svc"]));
  expect([world.fetched.lookup.size, world.kept().nameCount, world.slab.stats().usedBytes, world.ask(DB, 0)]).toEqual([0, 0, 0, "miss"]);
});

test("a change makes stale only what it names, and ends a negative answer at once", () => {
  const world = new World();
  const [cache, other]: readonly InstanceName[] = [
    { ...DB, name: "cache" },
    { ...DB, namespace: "other" },
  ];
  world.arrive(DB, world.sent(DB, 0));
  world.arrive(cache!, []);
  world.arrive(other!, []);
  world.fetched.told(keyOf(DB, 0), undefined);
  world.fetched.told(keyOf(cache!, 0), { bytes: new Uint8Array(), isOrphaned: false });
  expect([DB, cache!, other!].map((name) => world.ask(name, 1))).toEqual(["stale 1 6", "miss", "fresh 0 6"]);
  expect([DB, cache!, other!].map((name) => world.ask(name, 1, 0))).toEqual(["stale 1 6", "miss", "fresh 0 6"]);
});

test("only what differs is a change: other bytes, a node that is away, one entry more", () => {
  const states = [
    { i: 0, variant: 0, isOrphaned: false },
    { i: 0, variant: 1, isOrphaned: false },
    { i: 0, variant: 0, isOrphaned: true },
    { i: 1, variant: 0, isOrphaned: false },
  ].map(({ i, variant, isOrphaned }) => {
    const world = new World();
    world.arrive(DB, world.sent(DB, 0));
    const [bytes] = world.sent(DB, variant);
    world.fetched.told(keyOf(DB, i), { bytes: bytes!, isOrphaned });
    return world.ask(DB, 1);
  });
  expect(states).toEqual(["fresh 1 6", "stale 1 6", "stale 1 6", "stale 1 6"]);
});

test("a snapshot makes stale what it does not list, in the namespaces that it is of", () => {
  const world = new World();
  const other: InstanceName = { ...DB, namespace: "other" };
  for (const name of [DB, other]) world.arrive(name, world.sent(name, 0, 1));
  const list = (...keys: readonly KeyText[]) => world.fetched.listed((namespace) => namespace === "svc", new Set(keys));
  list(keyOf(DB, 0), keyOf(DB, 1));
  expect([DB, other].map((name) => world.ask(name, 1))).toEqual(["fresh 2 6", "fresh 2 6"]);
  list(keyOf(DB, 0));
  expect([DB, other].map((name) => world.ask(name, 1))).toEqual(["stale 2 6", "fresh 2 6"]);
});

test("what arrives after a change or a snapshot may be older than that", () => {
  const world = new World();
  const names = [DB, { ...DB, name: "cache" }, { ...DB, namespace: "eu" }, { ...DB, namespace: "other" }];
  for (const name of names) world.fetched.wait(name, () => {});
  world.fetched.told(keyOf(names[0]!, 0), undefined);
  world.fetched.listed((namespace) => namespace === "eu", new Set());
  for (const name of names) world.fetched.arrived(name, [], { ageMs: 5, isStale: false }, at(0));
  expect(names.map((name) => world.ask(name, 1))).toEqual(["miss", "fresh 0 6", "miss", "fresh 0 6"]);
});

test("those that wait hear that what arrives is outdated", () => {
  const world = new World();
  let leftMs: number | undefined;
  world.fetched.wait(DB, () => {
    leftMs = world.fetched.leftMs(DB, at(0));
  });
  world.fetched.told(keyOf(DB, 1), { bytes: new Uint8Array(1), isOrphaned: false });
  world.fetched.arrived(DB, world.sent(DB, 0), { ageMs: 5, isStale: false }, at(0));
  expect(leftMs).toBe(0);
});

test("what is under way when another policy comes into force, or when it is outdated, is asked for again when it has arrived", () => {
  const arrived = (outdate: (world: World) => void) => {
    const world = new World();
    const names = [DB, { ...DB, name: "cache" }, { ...DB, namespace: "other" }];
    for (const name of names) world.fetched.wait(name, () => {});
    outdate(world);
    for (const [i, name] of names.entries())
      world.fetched.arrived(name, i === 1 ? world.sent(name, 0) : [], { ageMs: 5, isStale: false }, at(0));
    return names.map((name) => world.ask(name, 1));
  };
  expect(arrived(() => {})).toEqual(["fresh 0 6", "fresh 1 6", "fresh 0 6"]);
  expect(arrived(({ fetched }) => fetched.outdate())).toEqual(["miss", "stale 1 6", "miss"]);
  expect(arrived(({ fetched }) => fetched.outdateBelow(new NamespacePrefixes(["svc"])))).toEqual(["miss", "stale 1 6", "fresh 0 6"]);
});

test("bounds hold: what is worth nothing goes first, and what has no room is not kept", () => {
  const world = new World(3);
  const names = Array.from({ length: 4 }, (_, i): InstanceName => ({ ...DB, namespace: `svc.n${i}` }));
  for (const name of names.slice(0, 3)) world.arrive(name, world.sent(name, 0));
  world.arrive(names[3]!, world.sent(names[3]!, 0, 1, 2, 0));
  expect([world.kept().entryCount <= 3, world.ask(names[3]!, 0)]).toEqual([true, "miss"]);
  world.fetched.prune(at(1001), undefined);
  expect(world.fetched.lookup.size).toBeLessThanOrEqual(3);
});

test("an answer that has no room is there for those that waited, for a second, and nothing of it stays", () => {
  const world = new World(3);
  world.arrive(DB, world.sent(DB, 0, 1, 2, 0));
  expect([world.fetched.lookup.size, world.kept().entryCount]).toEqual([4, 0]);
  world.arrive(DB, world.sent(DB, 0, 1, 2, 0), 500);
  expect(world.fetched.lookup.size).toBe(4);
  const other: InstanceName = { ...DB, name: "other" };
  world.arrive(other, world.sent(other, 0, 1, 2, 0), 1501);
  expect(world.fetched.lookup.size).toBe(4);
  world.fetched.drop(new NamespacePrefixes(["svc"]));
  expect([world.fetched.lookup.size, world.slab.stats().usedBytes]).toEqual([0, 0]);
});

test("a thousand answers that have no room stay at most, of empty names too", () => {
  const world = new World(0);
  for (let n = 0; n < 1003; n++) {
    const name: InstanceName = { ...DB, name: `n${n}` };
    world.arrive(name, world.sent(name, 0));
  }
  expect(world.fetched.lookup.size).toBeLessThanOrEqual(1001);
});

test("what may not be served any more is dropped", () => {
  const world = new World();
  world.arrive(DB, world.sent(DB, 0));
  world.fetched.prune(at(44_999), undefined);
  expect(world.kept().nameCount).toBe(1);
  world.fetched.prune(at(45_000), 0);
  expect(world.kept().nameCount).toBe(1);
  world.fetched.prune(at(45_000), undefined);
  expect([world.kept().nameCount, world.slab.stats().usedBytes]).toEqual([0, 0]);
});

test.each<{ what: string; name: InstanceName; entries: (world: World) => readonly Uint8Array[] }>([
  { what: "of another name", name: { ...DB, name: "cache" }, entries: (w) => w.sent(DB, 0) },
  { what: "of another namespace", name: { ...DB, namespace: "svc.eu" }, entries: (w) => w.sent(DB, 0) },
  { what: "that is no entry", name: DB, entries: () => [new Uint8Array([1, 2, 3])] },
])("an answer with something $what is refused whole", ({ name, entries }) => {
  const world = new World();
  expect(() => world.arrive(name, entries(world))).toThrow(expect.objectContaining({ reason: "invalid_argument" }));
  world.fetched.failed(name, new WaymarkError("not_ready", "garbled"));
  expect([world.fetched.lookup.size, world.slab.stats().usedBytes, world.fetched.wait(name, () => {})]).toEqual([0, 0, true]);
});

test("the report about the load of an entry goes with the answer that brought it", () => {
  const world = new World();
  const load = { utilization: 0.5, errorRate: 0, latencyMs: 0, activeClients: 0, observedWallMs: 1 };
  const withLoad = (name: InstanceName) => {
    world.sent(name, 0);
    const bytes = new DiscoveryBytes(world.node.replica.slab, { of: () => load });
    return [bytes.entry(world.node.replica.view(keyOf(name, 0))!)];
  };
  world.arrive(DB, withLoad(DB));
  expect(world.fetched.loads.size).toBe(1);
  world.arrive(DB, world.sent(DB, 0));
  expect(world.fetched.loads.size).toBe(0);
  world.arrive(DB, withLoad(DB));
  world.fetched.drop(new NamespacePrefixes(["svc"]));
  expect(world.fetched.loads.size).toBe(0);
});
