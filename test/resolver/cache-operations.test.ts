/** What operators do to the cache of a resolver, what it repairs by itself, and what it tells of itself. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { CatalogWatchResponseSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import type { InstanceName } from "../../src/catalog/query/instances.ts";
import { BODY, KIND } from "../../src/catalog/record/record.ts";
import { SNAPSHOT } from "../../src/catalog/watch/reader.ts";
import { KEYS } from "../fakes/mesh.ts";
import { ResolverWorld } from "../fakes/resolver-world.ts";

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const DB: InstanceName = { kind: KIND.SERVICE, namespace: "svc", name: "db" };
const OTHER: InstanceName = { ...DB, namespace: "other" };
const [DB1, DB2, OTHER1, OTHER2] = [KEYS[0]!, KEYS[1]!, KEYS[12]!, KEYS[13]!];

function started(options: ConstructorParameters<typeof ResolverWorld>[1] = {}, names = ["a"]): ResolverWorld {
  const world = new ResolverWorld(names, options);
  for (const key of [DB1, OTHER1]) world.put("a", key);
  world.run(2 * SECOND);
  return world;
}

/** The next message of each watch is lost, with a change in it. */
function lose(world: ResolverWorld, key: string): void {
  const server = world.server("a");
  server.garble = () => new Uint8Array();
  world.put("a", key);
  world.run(100);
  server.garble = (bytes) => bytes;
}

const statistics = ({ machine, now }: ResolverWorld) => machine.statistics(now);

test("a change that was lost on its way is found by the digest, and only what differs is fetched again", () => {
  const world = started({ resyncIntervalMs: 10 * SECOND, namespaces: ["svc", "other"] });
  lose(world, DB2);
  expect(world.ask(DB)).toBe("followed 1");
  const seen = new Set<number>();
  world.server("a").garble = (bytes) => {
    seen.add(world.instances(DB).length);
    seen.add(world.instances(OTHER).length);
    return bytes;
  };
  world.run(22 * SECOND);
  expect([world.ask(DB), world.ask(OTHER), statistics(world).resyncs]).toEqual([
    "followed 2",
    "followed 1",
    { operator: 0, digest: 1, gap: 0, policy: 0 },
  ]);
  expect([world.server("a").snapshotCount, seen]).toEqual([2, new Set([1, 2])]);
  world.run(MINUTE);
  expect(statistics(world).resyncs.digest).toBe(1);
  expect(world.resynced).toEqual(["digest a svc 1"]);
});

test("what differs is compared once more at once, and before anything else has its turn", () => {
  const world = started({ resyncIntervalMs: 100 * SECOND, namespaces: ["svc", "other"], random: () => 0.5 });
  lose(world, OTHER2);
  world.run(46 * SECOND);
  expect([world.ask(OTHER), statistics(world).resyncs.digest]).toEqual(["followed 1", 0]);
  world.run(8 * SECOND);
  expect([world.ask(OTHER), statistics(world).resyncs.digest]).toEqual(["followed 2", 1]);
});

test("what changes all the time is compared too, and is not taken for different", () => {
  const world = started({ resyncIntervalMs: 10 * SECOND, namespaces: ["svc", "other"] });
  const before = world.server("a").watchCount;
  for (let n = 0; n < 300; n++) {
    if (n % 3 === 0) world.end("a", DB2, BODY.UNREGISTERED);
    else world.put("a", n % 3 === 1 ? DB1 : DB2, n % 4);
    world.run(100);
  }
  expect(statistics(world).resyncs.digest).toBe(0);
  expect(world.server("a").watchCount - before).toBeGreaterThanOrEqual(5);
  lose(world, OTHER2);
  for (let n = 0; n < 250; n++) {
    world.put("a", OTHER1, n % 4);
    world.run(100);
  }
  expect([world.ask(OTHER), statistics(world).resyncs.digest]).toEqual(["followed 2", 1]);
});

test("a policy that only a comparison names is waited for as any other", () => {
  const world = started({ resyncIntervalMs: 10 * SECOND });
  world.server("a").garble = (bytes) => {
    const message = fromBinary(CatalogWatchResponseSchema, bytes);
    if (message.digest === 0n) return bytes;
    return toBinary(CatalogWatchResponseSchema, { ...message, policyEpoch: "7-0123456789ab" });
  };
  const isReady = () => world.machine.policy.isReady;
  expect(isReady()).toBe(true);
  for (let i = 0; i < 200 && isReady(); i++) world.run(100);
  expect([isReady(), world.machine.statistics(world.now).resyncs.digest]).toEqual([false, 0]);
});

test("resync fetches what is followed again, shows neither less nor half of it meanwhile, and says how much there is", () => {
  const world = started({ namespaces: ["svc", "other"] });
  lose(world, DB2);
  lose(world, OTHER2);
  // Only after the next bookmark it is lost for good.
  world.run(2 * SECOND);
  const seen = new Set<number>();
  world.server("a").garble = (bytes) => {
    seen.add(world.instances(DB).length);
    return bytes;
  };
  const told = world.act("resync", "svc");
  world.run(SECOND);
  expect([told, world.ask(DB), world.ask(OTHER)]).toEqual([[2], "followed 2", "followed 1"]);
  const all = world.act("resync");
  expect(all).toEqual([]);
  world.run(SECOND);
  expect([all, world.ask(OTHER), seen, statistics(world).resyncs.operator]).toEqual([[4], "followed 2", new Set([1, 2]), 2]);
});

test("what resync names and is not followed is stale from then on, and fetched again when somebody asks", () => {
  const world = started();
  world.ask(OTHER);
  expect([world.act("resync", "other"), world.ask(OTHER), world.server("a").fetchCount]).toEqual([[0], "fetched stale 1", 2]);
  expect([world.ask(OTHER), world.server("a").fetchCount]).toEqual(["fetched 1", 2]);
  expect(statistics(world).resyncs.operator).toBe(0);
});

test("prewarm follows a namespace before somebody asks, for ten minutes after the last ask", () => {
  const world = started();
  const told = world.act("prewarm", "other", "svc");
  world.run(SECOND);
  expect([told, world.ask(OTHER), world.server("a").fetchCount]).toEqual([[2], "followed 1", 0]);
  world.run(9 * MINUTE, SECOND);
  expect(world.ask(OTHER)).toBe("followed 1");
  world.run(11 * MINUTE, SECOND);
  expect([world.ask(OTHER), world.ask(DB)]).toEqual(["told", "followed 1"]);
});

test("prewarm pushes nothing out: without room for all it follows none", () => {
  const world = started({ maxWatches: 2 });
  expect(world.act("prewarm", "other", "svc-x")).toEqual(["quota_exceeded"]);
  world.run(SECOND);
  expect([world.ask(OTHER), world.act("prewarm", "svc.eu", "svc")]).toEqual(["told", [1]]);
});

test("evict lets go what was fetched, and what is followed only because it was asked for; what is configured or watched stays", () => {
  const world = started();
  world.machine.following.watch("svc-x");
  world.act("prewarm", "other");
  world.put("a", KEYS[8]!);
  world.run(SECOND);
  world.ask({ ...DB, namespace: "elsewhere" });
  expect(world.act("evict")).toEqual([1]);
  world.run(SECOND);
  expect([world.ask(OTHER), world.ask(DB), world.instances({ ...DB, namespace: "svc-x" }).length]).toEqual(["told", "followed 1", 1]);
  expect([world.act("evict", "other"), world.ask(OTHER), world.server("a").fetchCount]).toEqual([[1], "told", 3]);
});

test("without a server nothing can be fetched, and what was being fetched is refused when its server is lost", () => {
  const world = started({}, ["a"]);
  Object.assign(world.server("a"), { isSilent: true });
  const told = [world.act("resync", "svc"), world.act("prewarm", "other")];
  expect(told).toEqual([[], []]);
  world.server("a").isUp = false;
  world.run(SECOND);
  expect([...told, world.act("resync"), world.act("prewarm", "svc-x"), world.act("evict", "svc.eu")]).toEqual([
    ["not_ready"],
    ["not_ready"],
    ["not_ready"],
    ["not_ready"],
    [0],
  ]);
  Object.assign(world.server("a"), { isUp: true, isSilent: false });
  world.put("a", DB2);
  world.run(20 * SECOND);
  expect([world.ask(DB), world.ask(OTHER)]).toEqual(["followed 2", "followed 1"]);
});

test("a server that says nothing keeps a call for a minute, and a hundred calls at most", () => {
  const world = started({}, ["a"]);
  world.server("a").garble = () => new Uint8Array();
  const told = Array.from({ length: 101 }, () => world.act("prewarm", "other"));
  expect(told.map(([outcome]) => outcome)).toEqual([...Array<undefined>(100).fill(undefined), "not_ready"]);
  world.run(61 * SECOND);
  expect(new Set(told.flat())).toEqual(new Set(["not_ready"]));
});

test("statistics tell of entries, answers, lag and the upstream", () => {
  const world = started();
  world.ask(DB);
  world.ask(OTHER);
  world.ask(OTHER);
  world.ask({ ...OTHER, name: "none" });
  world.ask({ ...OTHER, name: "none" });
  world.run(31 * SECOND);
  const { sizeBytes, cursor, ageMs, ...said } = statistics(world);
  expect(said).toMatchObject({
    entryCount: 3,
    hitCount: 3,
    missCount: 2,
    staleCount: 0,
    negativeCount: 1,
    lagMs: 0,
    upstream: "a",
    upstreamChangeCount: 1,
  });
  expect([sizeBytes > 1000, cursor.length > 10, Math.round((ageMs ?? 0) / 10_000)]).toEqual([true, true, 3]);
  world.server("a").isUp = false;
  world.run(10 * SECOND);
  expect([world.ask(DB), statistics(world)]).toMatchObject(["followed stale 1", { staleCount: 1, upstream: "", cursor: "" }]);
  expect(Math.round((statistics(world).lagMs ?? 0) / 2000)).toBe(5);
  expect(world.ask({ ...OTHER, namespace: "third" })).toBe("not_ready");
  expect(statistics(world).missCount).toBe(3);
});

test("a resolver that follows nothing lags behind nobody, and one that has never held anything whole does not know", () => {
  const world = new ResolverWorld(["a"], { namespaces: [] });
  expect(statistics(world)).toMatchObject({ lagMs: undefined, ageMs: undefined, cursor: "" });
  world.run(2 * SECOND);
  expect(statistics(world)).toMatchObject({ lagMs: 0, ageMs: undefined, entryCount: 0 });
});

test.each([
  { why: "policy", replaces: ["svc-x"] },
  { why: "gap", replaces: [] },
])("a snapshot that nobody asked for is counted by its reason: $why", ({ why, replaces }) => {
  const world = started();
  const server = world.server("a");
  for (const fields of [{ snapshot: SNAPSHOT.BEGIN, replaces }, { snapshot: SNAPSHOT.END }]) {
    server.garble = (bytes) => Buffer.concat([bytes, toBinary(CatalogWatchResponseSchema, create(CatalogWatchResponseSchema, fields))]);
    world.run(SECOND);
  }
  expect(statistics(world).resyncs).toEqual({ operator: 0, digest: 0, gap: 0, policy: 0, [why]: 1 });
  expect(world.resynced).toEqual([`${why} a ${why === "gap" ? "svc" : "svc-x"} 1`]);
});

test("the first of many resyncs is told at once, and those of the minute after it together, for each reason by itself", () => {
  const world = started();
  const snapshot = (replaces: readonly string[]) => {
    const parts = [{ snapshot: SNAPSHOT.BEGIN, replaces: [...replaces] }, { snapshot: SNAPSHOT.END }].map((fields) =>
      toBinary(CatalogWatchResponseSchema, create(CatalogWatchResponseSchema, fields)),
    );
    const server = world.server("a");
    server.garble = (bytes) => Buffer.concat([bytes, ...parts.splice(0, 1)]);
    world.run(3 * SECOND);
  };
  for (let n = 0; n < 5; n++) snapshot([]);
  expect(world.resynced).toEqual(["gap a svc 1"]);
  // What is told later is no reason to be woken now.
  expect(world.machine.nextDeadlineMs()).toBeGreaterThan(world.now.monoMs);
  snapshot(["svc.x"]);
  expect(world.resynced).toEqual(["gap a svc 1", "policy a svc.x 1"]);
  world.run(MINUTE);
  expect(world.resynced).toEqual(["gap a svc 1", "policy a svc.x 1", "gap a svc 4"]);
  world.run(3 * MINUTE);
  snapshot([]);
  // These snapshots were empty, so a round of digests found that everything is missing.
  expect(world.resynced.slice(3)).toEqual(["digest a svc 1", "gap a svc 1"]);
});

test("what is told later names the server from which it came, though none is read by then", () => {
  const world = started();
  const server = world.server("a");
  for (let n = 0; n < 2; n++) {
    const parts = [SNAPSHOT.BEGIN, SNAPSHOT.END].map((snapshot) =>
      toBinary(CatalogWatchResponseSchema, create(CatalogWatchResponseSchema, { snapshot })),
    );
    server.garble = (bytes) => Buffer.concat([bytes, ...parts.splice(0, 1)]);
    world.run(3 * SECOND);
  }
  server.isUp = false;
  world.run(MINUTE);
  expect([statistics(world).upstream, world.resynced.slice(0, 2)]).toEqual(["", ["gap a svc 1", "gap a svc 1"]]);
});

test("what was fetched is as old as its server said, and the time since", () => {
  const world = started({ namespaces: [] });
  world.server("a").ageMs = 100 * SECOND;
  world.ask(OTHER);
  world.run(31 * SECOND);
  expect(Math.round((statistics(world).ageMs ?? 0) / 10_000)).toBe(13);
});

test("what is remembered as lost takes as much room as when it was there", () => {
  const world = started();
  const keys = Array.from({ length: 10 }, (_, n) => DB1.replace("\u00001\u0000c1", `\u0000x${n}\u0000c1`));
  for (const key of keys) world.put("a", key);
  world.run(SECOND);
  const before = statistics(world);
  for (const key of keys.slice(0, 3)) world.end("a", key, BODY.EXPIRED);
  world.run(SECOND);
  const { heldCount, entryCount, sizeBytes } = statistics(world);
  expect([heldCount, before.entryCount - entryCount, sizeBytes >= before.sizeBytes]).toEqual([0, 3, true]);
});
