/** A resolver between its servers: what it answers, and from where, whatever these do. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { CatalogQueryResponseSchema, CatalogWatchResponseSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import type { InstanceName } from "../../src/catalog/query/instances.ts";
import { BODY, KIND } from "../../src/catalog/record/record.ts";
import { Rng } from "../../src/lib/rng.ts";
import { epochOf } from "../../src/policy/set/verdict.ts";
import { runs } from "../fakes/effort.ts";
import { KEYS } from "../fakes/mesh.ts";
import { version } from "../fakes/policy-versions.ts";
import { act, expectAsServers, SERVERS, take } from "../fakes/resolver-acts.ts";
import { ResolverWorld } from "../fakes/resolver-world.ts";

/** Of `svc`, which is configured; two instances. */
const DB: InstanceName = { kind: KIND.SERVICE, namespace: "svc", name: "db" };
const [DB1, DB2] = [KEYS[0]!, KEYS[1]!];
/** Of a namespace that nobody configured. */
const OTHER: InstanceName = { kind: KIND.SERVICE, namespace: "other", name: "db" };
const OTHER1 = KEYS[12]!;
const SECOND = 1000;
const MINUTE = 60 * SECOND;
/** After it what was ordered arrives. */
const STEP = 100;

/** A prefix is wanted no more, and does not stay for some seconds: an evict lets go whatever stays. */
function letGo(world: ResolverWorld, prefix: string): void {
  world.machine.following.unwatch(prefix);
  world.act("evict", "nothing.here");
}

function started(...names: readonly string[]): ResolverWorld {
  const world = new ResolverWorld(names.length === 0 ? ["a"] : names);
  const [first = "a"] = names;
  for (const key of [DB1, DB2, OTHER1]) world.put(first, key);
  world.run(2 * SECOND);
  return world;
}

test("it is ready when its configured namespaces are there, and the policy; what it follows is current, and everything else is fetched once", () => {
  const world = new ResolverWorld(["a"]);
  for (const key of [DB1, OTHER1]) world.put("a", key);
  expect([world.machine.isReady, world.ask(DB)]).toEqual([false, "not_ready"]);
  world.run(SECOND);
  expect([world.machine.isReady, world.ask(DB), world.ask(OTHER), world.ask(OTHER)]).toEqual([true, "followed 1", "told", "fetched 1"]);
  world.put("a", DB2);
  world.run(SECOND);
  expect([world.ask(DB), world.server("a").fetchCount]).toEqual(["followed 2", 1]);
});

test("what its server calls stale is stale here too, until that server is well", () => {
  const world = started();
  world.server("a").ageMs = 2 * MINUTE;
  world.run(2 * SECOND);
  expect([world.ask(DB), world.ask(OTHER), world.ask(OTHER)]).toEqual(["followed stale 2", "told", "fetched stale 1"]);
  world.server("a").ageMs = 20;
  world.run(2 * SECOND);
  expect(world.ask(DB)).toBe("followed 2");
});

test("a name that is nowhere is fetched once, and its absence is known for a while", () => {
  const world = started();
  const none = { ...OTHER, name: "none" };
  expect([world.ask(none), world.ask(none), world.server("a").fetchCount]).toEqual(["told", "fetched 0", 1]);
  world.run(16 * SECOND);
  expect([world.ask(none), world.server("a").fetchCount]).toEqual(["told", 2]);
});

test("a call that asks for many names of a namespace asks for it once", () => {
  const world = started();
  for (let call = 0; call < 3; call++)
    for (let n = 0; n < 10; n++) world.machine.ask({ ...OTHER, name: `n${n}` }, () => {}, world.now, [], { isFurther: n > 0 });
  expect(world.machine.following.prefixes.list).toEqual(["svc"]);
  world.ask(OTHER);
  expect(world.machine.following.prefixes.list).toEqual(["other", "svc"]);
});

test("a namespace that is asked for often is followed from then on", () => {
  const world = started();
  for (let n = 0; n < 5; n++) world.ask(OTHER);
  world.run(2 * SECOND);
  expect(world.ask(OTHER)).toBe("followed 1");
  world.put("a", KEYS[13]!);
  world.run(SECOND);
  expect([world.ask(OTHER), world.server("a").fetchCount]).toEqual(["followed 2", 1]);
});

test("with every server gone nothing expires before an hour, everything is stale, and what is not known is not said to be absent", () => {
  const world = started();
  world.ask(OTHER);
  world.server("a").isUp = false;
  world.run(50 * MINUTE);
  expect([world.ask(DB), world.ask(OTHER), world.ask({ ...OTHER, name: "none" })]).toEqual([
    "followed stale 2",
    "fetched stale 1",
    "not_ready",
  ]);
  world.run(11 * MINUTE);
  expect([world.ask(DB), world.ask(OTHER)]).toEqual(["followed stale 2", "not_ready"]);
  world.server("a").isUp = true;
  world.run(20 * SECOND);
  expect([world.ask(DB), world.server("a").snapshotCount]).toEqual(["followed 2", 1]);
});

test("when its server is lost it goes on at another one from where it was, without a snapshot", () => {
  const world = started("a", "b");
  world.server("a").isUp = false;
  world.end("b", DB1, BODY.UNREGISTERED);
  world.run(5 * SECOND);
  expect([world.machine.upstreams.current, world.ask(DB), world.server("b").snapshotCount]).toEqual(["b", "followed 1", 0]);
});

test("a watch that says nothing makes answers stale after 3 s, and its server is left after 10", () => {
  const world = started("a", "b");
  world.server("a").isSilent = true;
  world.run(2 * SECOND);
  expect(world.ask(DB)).toBe("followed 2");
  world.run(2 * SECOND);
  expect(world.ask(DB)).toBe("followed stale 2");
  world.run(10 * SECOND);
  expect([world.machine.upstreams.current, world.ask(DB)]).toEqual(["b", "followed 2"]);
});

test("what was fetched is stale too while the server says nothing on its watch, or no server answers, and not before or after", () => {
  const world = started();
  const fetchedFor = (ms: number) => {
    world.run(ms);
    return world.ask(OTHER);
  };
  world.ask(OTHER);
  world.server("a").isSilent = true;
  expect([fetchedFor(2 * SECOND), fetchedFor(2 * SECOND)]).toEqual(["fetched 1", "fetched stale 1"]);
  world.server("a").isSilent = false;
  expect(fetchedFor(SECOND)).toBe("fetched 1");
  world.server("a").isUp = false;
  expect(fetchedFor(200)).toBe("fetched stale 1");
  expect(world.machine.statistics(world.now).staleCount).toBe(2);
});

test("what was fetched is stale while a resolver follows nothing and no server answers its probes, and while its server calls its own data stale", () => {
  const world = new ResolverWorld(["a"], { namespaces: [] });
  world.put("a", OTHER1);
  world.run(10 * SECOND);
  expect([world.ask(OTHER), world.ask(OTHER)]).toEqual(["told", "fetched 1"]);
  world.server("a").isUp = false;
  world.run(7 * SECOND);
  expect(world.ask(OTHER)).toBe("fetched stale 1");
  const other = started();
  other.ask(OTHER);
  other.server("a").ageMs = 2 * MINUTE;
  other.run(2 * SECOND);
  expect(other.ask(OTHER)).toBe("fetched stale 1");
});

test("a name that is a part of a question is not counted by itself", () => {
  const world = started();
  const ask = (name: InstanceName, isCounted: boolean) => world.port(name, { isCounted }, () => {});
  const count = () => {
    const { hitCount, missCount, negativeCount } = world.machine.statistics(world.now);
    return [hitCount, missCount, negativeCount];
  };
  const none = { ...OTHER, name: "none" };
  for (const isCounted of [false, true])
    for (const name of [DB, { ...none, name: `none-${isCounted}` }]) {
      ask(name, isCounted);
      world.run(200);
      ask(name, isCounted);
      if (!isCounted) expect(count()).toEqual([0, 0, 0]);
    }
  expect(count()).toEqual([3, 1, 1]);
});

test("a change that was lost with its server does not keep a resolver from following another one", () => {
  const world = started("a", "b");
  const { node } = world.server("a");
  node.put(KEYS[4]!, 0, world.now);
  node.commit(world.now);
  const eu = { ...DB, namespace: "svc.eu" };
  world.run(2 * SECOND);
  expect(world.ask(eu)).toBe("followed 1");
  world.server("a").isUp = false;
  world.run(MINUTE);
  expect([world.machine.upstreams.current, world.ask(eu), world.server("b").snapshotCount]).toEqual(["b", "followed 0", 1]);
});

test("a watch that breaks is opened again, where it left off", () => {
  const world = started();
  world.server("a").breaks = true;
  world.run(2 * SECOND);
  world.put("a", DB1, 1);
  world.run(3 * SECOND);
  expect([world.ask(DB), world.server("a").watchCount, world.server("a").snapshotCount]).toEqual(["followed 2", 2, 1]);
});

test("another server makes answers no fresher before it has said something", () => {
  const world = started("a", "b");
  world.server("a").isSilent = true;
  world.run(2500);
  Object.assign(world.server("b"), { isSilent: true });
  world.server("a").isUp = false;
  world.run(1000);
  expect([world.machine.upstreams.current, world.ask(DB)]).toEqual(["b", "followed stale 2"]);
});

test.each([6, 14])(
  "a change that only a server which is gone had keeps nobody for long from what the others tell, also when they tell of a change each %i s",
  (everySeconds) => {
    const world = started("a", "b", "c");
    world.server("a").isAlone = true;
    world.put("a", DB1, 1);
    world.run(2 * SECOND);
    world.server("a").isUp = false;
    const shown = () => [world.ask(DB), world.server("b").snapshotCount + world.server("c").snapshotCount];
    for (let n = 0; n < 29 / everySeconds - 1; n++) {
      world.run(everySeconds * SECOND);
      world.put("b", KEYS[2]!, n);
    }
    world.run(SECOND);
    expect(shown()[1]).toBe(0);
    world.run(14 * SECOND);
    expect(shown()).toEqual(["followed 2", 1]);
  },
);

test("with no server left answers are stale at once", () => {
  const world = started();
  world.server("a").isUp = false;
  world.run(200);
  expect(world.ask(DB)).toBe("followed stale 2");
});

test("a server that comes back after long has its time to answer", () => {
  const world = started();
  world.server("a").isUp = false;
  world.run(MINUTE);
  Object.assign(world.server("a"), { isUp: true, isSilent: true });
  world.run(9 * SECOND);
  expect([world.machine.upstreams.current, world.server("a").watchCount]).toEqual(["a", 2]);
});

test("what is stale is served, and fetched again", () => {
  const world = started();
  world.ask(OTHER);
  world.run(16 * SECOND);
  world.put("a", KEYS[13]!);
  expect([world.ask(OTHER), world.ask(OTHER), world.server("a").fetchCount]).toEqual(["fetched stale 1", "fetched 2", 2]);
});

test("what is stale is served also while too much is being fetched", () => {
  const world = started();
  world.ask(OTHER);
  world.run(16 * SECOND);
  for (let n = 0; n < 1000; n++) world.machine.ask({ ...OTHER, name: `n${n}` }, () => {}, world.now, []);
  expect([world.ask(OTHER), world.ask({ ...OTHER, name: "one-more" })]).toEqual(["fetched stale 1", "not_ready"]);
});

test("a loop that closes later is left too, when a fetched answer shows it", () => {
  const world = started("a", "b");
  world.server("a").facts = { clusterId: "c1", region: "r1", via: ["me"] };
  world.ask(OTHER);
  expect(world.machine.upstreams.current).toBe("b");
});

test("who waits for an answer that cannot be read is told so", () => {
  const world = started();
  world.server("a").garbleFetched = (bytes) => bytes.subarray(0, bytes.length - 2);
  expect([world.ask(OTHER), world.garbled.length]).toEqual(["failed", 1]);
});

test("a server that sends what it cannot have sent is left alone, and what was held stays", () => {
  const world = started("a", "b");
  world.server("a").garble = (bytes) => bytes.subarray(0, bytes.length - 3);
  world.run(5 * SECOND);
  expect([world.machine.upstreams.current, world.ask(DB), world.garbled.length]).toEqual(["b", "followed 2", 1]);
  expect(world.garbled[0]).toMatch(/^a: invalid_argument: malformed/);
});

test.each([
  { what: "another cluster", refusal: "cluster", facts: { clusterId: "c2", region: "r1", via: [] } },
  { what: "another region", refusal: "region", facts: { clusterId: "c1", region: "r2", via: [] } },
  { what: "a loop", refusal: "loop", facts: { clusterId: "c1", region: "r1", via: ["x", "me"] } },
] as const)("a server of $what is refused, which is said and counted once", ({ facts, refusal }) => {
  const world = new ResolverWorld(["a"]);
  world.server("a").facts = facts;
  world.put("a", DB1);
  world.run(30 * SECOND);
  expect([world.ask(DB), world.server("a").snapshotCount]).toEqual(["not_ready", 0]);
  expect([world.refused, world.machine.statistics(world.now).upstreamFaults[refusal]]).toEqual([[`a: ${refusal}`], 1]);
});

test("a loop that closes later is left too", () => {
  const world = started("a", "b");
  world.server("a").facts = { clusterId: "c1", region: "r1", via: ["me"] };
  world.run(3 * SECOND);
  expect([world.machine.upstreams.current, world.refused]).toEqual(["b", ["a: loop"]]);
});

test("no fail-over makes an age smaller before the next server has told where it is", () => {
  const world = started("a", "b");
  const age = () => world.machine.ask(DB, () => {}, world.now, [])?.ageMs ?? 0;
  world.server("a").ageMs = 5000;
  world.run(2 * SECOND);
  const before = age();
  expect(before).toBeGreaterThanOrEqual(5000);
  world.server("a").isUp = false;
  world.server("b").isSilent = true;
  world.run(SECOND);
  expect(age()).toBe(before + SECOND);
});

function ageOf(world: ResolverWorld, name: InstanceName): number {
  return world.machine.ask(name, () => {}, world.now, [])?.ageMs ?? Number.NaN;
}

test("a bookmark that is no place to go on from, as another resolver's may be, says how old the data is and whether it is stale", () => {
  const world = started();
  const server = world.server("a");
  server.garble = (bytes) => toBinary(CatalogWatchResponseSchema, { ...fromBinary(CatalogWatchResponseSchema, bytes), portableCursor: "" });
  server.ageMs = 5000;
  world.run(20 * SECOND);
  expect([world.ask(DB), Math.floor(ageOf(world, DB) / SECOND)]).toEqual(["followed 2", 5]);
  server.ageMs = 2 * MINUTE;
  world.run(2 * SECOND);
  expect(world.ask(DB)).toBe("followed stale 2");
});

test("what an upstream says of the age of its data counts from the time at which it may have said so, and not from when it was read", () => {
  const world = started();
  world.run(2 * SECOND);
  const before = ageOf(world, DB);
  world.delayMs = 2500;
  world.run(2 * SECOND);
  expect(ageOf(world, DB)).toBe(before + 2500);
  world.delayMs = 0;
  world.run(2 * SECOND);
  expect(ageOf(world, DB)).toBe(before);
});

test("the age of what was fetched counts from the time at which the server was asked", () => {
  const world = started();
  world.server("a").ageMs = 20;
  expect([world.ask(OTHER), world.run(STEP)]).toEqual(["told", undefined]);
  expect(ageOf(world, OTHER)).toBeGreaterThanOrEqual(STEP);
});

test("too many entries that expire at once are served on for five minutes, as stale, unless they come back", () => {
  const world = new ResolverWorld(["a"]);
  const keys = [DB1, DB2, ...[3, 4].map((n) => DB1.replace("\u00001\u0000c1", `\u0000${n}\u0000c1`) as typeof DB1)];
  for (const key of keys) world.put("a", key);
  world.run(2 * SECOND);
  for (const key of keys.slice(0, 3)) world.end("a", key, BODY.EXPIRED);
  world.run(SECOND);
  expect(world.ask(DB)).toBe("followed stale 4");
  // Of it nothing is held.
  expect(world.ask({ ...DB, kind: KIND.FUNCTION, name: "web" })).toBe("followed 0");
  expect(world.instances(DB).filter((line) => line.endsWith(" 5")).length).toBe(3);
  world.put("a", DB1);
  world.run(SECOND);
  expect(world.instances(DB).filter((line) => line.endsWith(" 5")).length).toBe(2);
  world.run(6 * MINUTE);
  expect(world.ask(DB)).toBe("followed 2");
});

test.each(["told of it", "told without it by a snapshot"])(
  "an entry that ended, and one that was put, stay so when their namespace is followed no more: %s",
  (how) => {
    const world = started();
    const absent: InstanceName = { ...OTHER, name: "web", kind: KIND.FUNCTION };
    const change = () => {
      world.end("a", OTHER1, BODY.UNREGISTERED);
      world.put("a", KEYS[14]!);
      world.run(SECOND);
    };
    expect([world.ask(OTHER), world.ask(absent), world.ask(absent)]).toEqual(["told", "told", "fetched 0"]);
    if (how !== "told of it") change();
    world.machine.following.watch("other");
    world.run(SECOND);
    if (how === "told of it") change();
    expect([world.ask(OTHER), world.ask(absent)]).toEqual(["followed 0", "followed 1"]);
    expect(world.machine.releaseCount).toBe(0);
    letGo(world, "other");
    world.run(200);
    expect(world.machine.releaseCount).toBe(1);
    expect([world.ask(OTHER), world.ask(absent)]).toEqual(["fetched stale 1", "told"]);
    expect([world.ask(OTHER), world.ask(absent)]).toEqual(["fetched 0", "fetched 1"]);
  },
);

test("that nothing exists is not said after its put was told, also when no server answers", () => {
  const world = started();
  const absent: InstanceName = { ...OTHER, name: "web", kind: KIND.FUNCTION };
  world.ask(absent);
  world.machine.following.watch("other");
  world.put("a", KEYS[14]!);
  world.run(SECOND);
  letGo(world, "other");
  world.run(200);
  world.server("a").isUp = false;
  world.run(200);
  expect(world.ask(absent)).toBe("not_ready");
});

test("an answer that a watch told once more is as fresh as before", () => {
  const world = started();
  world.ask(OTHER);
  world.machine.following.watch("other");
  world.run(SECOND);
  letGo(world, "other");
  world.run(200);
  expect([world.ask(OTHER), world.server("a").fetchCount]).toEqual(["fetched 1", 1]);
});

test("what was fetched under another policy is asked for again at once, and nothing is called absent by it", () => {
  const world = started("a", "b");
  const none = { ...OTHER, namespace: "elsewhere" };
  expect([OTHER, none].map((name) => world.ask(name))).toEqual(["told", "told"]);
  const server = world.server("b");
  server.versions = [version(1)];
  server.policyEpoch = epochOf(version(1).head);
  world.server("a").isUp = false;
  world.run(2 * SECOND);
  expect([OTHER, none, OTHER, none].map((name) => world.ask(name))).toEqual(["fetched stale 1", "told", "fetched 1", "fetched 0"]);
  // Asked for once more each, they would be followed.
  expect(server.fetchCount).toBe(2);
});

test("an upstream that refuses one prefix is not left for it, and the prefix is asked for again later", () => {
  const world = started("a", "b");
  const a = world.server("a");
  a.refused = ["other"];
  world.machine.following.watch("other");
  world.run(20 * SECOND);
  expect([world.machine.upstreams.current, world.ask(DB), world.ask(OTHER)]).toEqual(["a", "followed 2", "told"]);
  expect(a.watchCount).toBeLessThan(10);
  a.refused = [];
  world.run(MINUTE);
  expect([world.machine.upstreams.current, world.ask(OTHER)]).toEqual(["a", "followed 1"]);
});

test.each([
  { refused: ["svc"], refusal: "prefix" as const },
  { refused: ["other"], refusal: "access" as const },
  { refused: ["ns3", "ns9"], refusal: "access" as const },
])("of many prefixes those that are refused ($refused) are found, also where they were followed before", ({ refused, refusal }) => {
  const namespaces = ["svc", "other", ...Array.from({ length: 14 }, (_, n) => `ns${n}`)];
  const world = new ResolverWorld(["a"], { namespaces });
  const a = world.server("a");
  Object.assign(a, { refused, refusal });
  for (const key of [DB1, OTHER1]) world.put("a", key);
  const followed = () => namespaces.filter((namespace) => !world.machine.isComplete(namespace));
  world.run(12 * SECOND);
  expect([world.machine.upstreams.current, followed()]).toEqual(["a", refused]);
  a.refused = [];
  world.run(MINUTE);
  expect(followed()).toEqual([]);
  Object.assign(a, { refused, breaks: true });
  world.run(12 * SECOND);
  expect([world.machine.upstreams.current, followed()]).toEqual(["a", refused]);
  expect(world.machine.bookmarks.isAtBookmark).toBe(true);
});

test("an upstream that refuses the place from which a watch would go on is asked for a snapshot", () => {
  const world = started();
  Object.assign(world.server("a"), { refusesPlaces: true, breaks: true });
  world.put("a", DB1, 1);
  world.run(20 * SECOND);
  expect([world.machine.bookmarks.isAtBookmark, world.ask(DB)]).toEqual([true, "followed 2"]);
});

test("what is held stays while an upstream that refuses its place is asked for a snapshot", () => {
  const world = new ResolverWorld(["a"], { namespaces: ["svc", "other"] });
  for (const key of [DB1, OTHER1]) world.put("a", key);
  world.run(2 * SECOND);
  const server = world.server("a");
  Object.assign(server, { refusesPlaces: true, breaks: true });
  for (let n = 0; n < 100; n++) {
    world.run(100);
    // Half of it at least stays.
    expect(world.ask(OTHER)).toMatch(/^followed/);
    if (n === 5) server.refusesPlaces = false;
  }
  expect(world.ask(DB)).toBe("followed 1");
});

test("an upstream that refuses everything is left", () => {
  const world = new ResolverWorld(["a", "b"], { namespaces: ["svc", "other"] });
  const [a, b] = [world.server("a"), world.server("b")];
  Object.assign(a, { refused: ["svc", "other"], refusal: "access" });
  b.latencyMs = 50;
  world.put("a", DB1);
  world.run(20 * SECOND);
  expect([world.machine.upstreams.current, world.ask(DB)]).toEqual(["b", "followed 1"]);
});

test("ever new namespaces that are wanted for a moment cost the upstream few streams, and each of them is there in time", () => {
  const world = started();
  const a = world.server("a");
  const before = a.watchCount;
  const waits: number[] = [];
  const open = new Map<string, number>();
  for (let n = 0; n < 600; n++) {
    const namespace = `flood${n}`;
    world.machine.following.watch(namespace);
    open.set(namespace, n);
    world.run(100);
    for (const [one, since] of open) {
      if (!world.machine.isComplete(one)) continue;
      waits.push(n - since);
      open.delete(one);
      world.machine.following.unwatch(one);
    }
  }
  for (const one of open.keys()) world.machine.following.unwatch(one);
  // One in half a second, each with a watch of its own and one for all.
  expect(a.watchCount - before).toBeLessThan(260);
  expect([waits.length > 580, Math.max(...waits) <= 12]).toEqual([true, true]);
  world.run(10 * SECOND);
  expect([world.machine.isComplete("flood0"), world.machine.isComplete("flood599"), world.ask(DB)]).toEqual([false, false, "followed 2"]);
});

test("a namespace that is wanted again soon is not fetched again", () => {
  const world = started();
  const a = world.server("a");
  world.machine.following.watch("other");
  world.run(SECOND);
  const before = a.watchCount;
  for (let n = 0; n < 20; n++) {
    world.machine.following.unwatch("other");
    world.run(300);
    world.machine.following.watch("other");
    world.run(100);
  }
  expect([a.watchCount, world.machine.isComplete("other")]).toEqual([before, true]);
});

test("while it lacks a policy of which it heard it is not ready", () => {
  const world = new ResolverWorld(["a"]);
  const server = world.server("a");
  server.versions = [version(1)];
  server.policyEpoch = epochOf(version(1).head);
  world.put("a", DB1);
  world.run(2 * SECOND);
  expect([world.machine.isReady, world.machine.policy.known.length]).toEqual([true, 1]);
  server.policyEpoch = epochOf(version(2).head);
  world.run(2 * SECOND);
  expect(world.machine.isReady).toBe(false);
});

test.each(["watch", "fetch"] as const)(
  "a server that names a policy by a %s that nobody has holds nobody up for long, and is left",
  (by) => {
    const world = new ResolverWorld(["a", "b"]);
    const [a, b] = [world.server("a"), world.server("b")];
    for (const server of [a, b]) {
      server.versions = [version(1)];
      server.policyEpoch = epochOf(version(1).head);
    }
    b.latencyMs = 50;
    for (const key of [DB1, OTHER1]) world.put("a", key);
    world.run(2 * SECOND);
    const lie = { policyEpoch: "9007199254740991" };
    // Of a field that comes twice the last counts.
    if (by === "watch")
      a.garble = (bytes) => Buffer.concat([bytes, toBinary(CatalogWatchResponseSchema, create(CatalogWatchResponseSchema, lie))]);
    else a.garbleFetched = (bytes) => Buffer.concat([bytes, toBinary(CatalogQueryResponseSchema, create(CatalogQueryResponseSchema, lie))]);
    if (by === "fetch") world.ask(OTHER);
    world.run(2 * SECOND);
    expect([world.machine.isReady, world.machine.upstreams.current]).toEqual([false, "a"]);
    const copy = world.copy();
    world.run(10 * SECOND);
    expect([world.machine.isReady, world.machine.upstreams.current, world.ask(DB)]).toEqual([true, "b", "followed 0"]);
    expect(world.machine.upstreams.refused).toMatchObject([{ upstream: "a", refusal: "policy" }]);
    expect([world.machine.statistics(world.now).upstreamFaults, world.refused]).toMatchObject([{ policy: 1, garbled: 0 }, []]);
    expect(world.garbled).toEqual(["a: the upstream referred to policy version 9007199254740991, which no server has sent since"]);
    a.isUp = false;
    expect(world.restart(copy)).toMatchObject({ ok: true });
    world.run(2 * SECOND);
    expect(world.machine.isReady).toBe(false);
    world.run(MINUTE);
    expect([world.machine.isReady, world.ask(DB)]).toEqual([true, "followed 0"]);
  },
);

test("whatever its servers did, once they are well again it answers everything as they do, and says that it is fresh", () => {
  fc.assert(
    fc.property(fc.array(act, { minLength: 1, maxLength: 60, size: "max" }), (acts) => {
      const world = new ResolverWorld(SERVERS);
      for (const one of acts) take(world, one);
      expectAsServers(world);
    }),
    { numRuns: runs(40) },
  );
});

test("without seed_on_start it is ready as soon as it has the policy, and still says of nothing that it is absent before it is there", () => {
  const world = new ResolverWorld(["a"], { seedOnStart: false });
  expect(world.machine.isReady).toBe(false);
  world.server("a").isSilent = true;
  world.run(1000);
  expect([world.machine.isReady, world.ask(DB)]).toEqual([true, "told"]);
});

test("a resolver that follows nothing does not call its upstream silent, and a watch that it opens later has its time", () => {
  const world = new ResolverWorld(["a"], { namespaces: [] });
  world.put("a", OTHER1);
  world.run(MINUTE);
  expect(world.machine.upstreams.current).toBe("a");
  world.server("a").isSilent = true;
  world.machine.following.watch("other");
  world.run(9 * SECOND);
  expect([world.machine.upstreams.current, world.server("a").watchCount]).toEqual(["a", 1]);
  world.server("a").isSilent = false;
  world.run(SECOND);
  expect(world.ask(OTHER)).toBe("followed 1");
});

test("a namespace that is asked for often is followed at once", () => {
  const world = started();
  const { watchCount } = world.server("a");
  for (let n = 0; n < 4; n++) world.ask(OTHER);
  expect(world.server("a").watchCount).toBe(watchCount + 1);
});

test("answers that are arriving have no more bytes than may be held, and leave nothing behind", () => {
  const world = new ResolverWorld(["a"], { maxBytes: 300_000 });
  world.put("a", OTHER1);
  world.run(SECOND);
  expect(world.ask(OTHER)).toBe("told");
  const { garbleFetched } = world.server("a");
  // A field that nobody knows, of 400,000 bytes.
  const more = Buffer.concat([Buffer.from([0xfa, 0x7f, 0x80, 0xb5, 0x18]), Buffer.alloc(400_000)]);
  world.server("a").garbleFetched = (bytes) => Buffer.concat([bytes, more]);
  expect(world.ask({ ...OTHER, name: "large" })).toBe("failed");
  world.server("a").garbleFetched = garbleFetched;
  expect(world.ask({ ...OTHER, name: "small" })).toBe("told");
});

test("a server that answers probes, and ends every watch at once, is not asked without end", () => {
  const world = new ResolverWorld(["a"]);
  world.put("a", DB1);
  for (let ms = 0; ms < MINUTE; ms += 100) {
    world.server("a").breaks = true;
    world.run(100);
  }
  expect(world.server("a").watchCount).toBeGreaterThan(5);
  expect(world.server("a").watchCount).toBeLessThan(25);
  world.server("a").breaks = false;
  world.run(20 * SECOND);
  expect(world.ask(DB)).toBe("followed 1");
});

test.each(Array.from({ length: runs(24) }, (_, seed) => ({ seed })))("no bytes of a server break it: seed $seed", ({ seed }) => {
  const rng = new Rng(seed);
  const spoil = (bytes: Uint8Array): Uint8Array => {
    if (rng.int(3) > 0 || bytes.length === 0) return bytes;
    const spoiled = Buffer.from(bytes);
    for (let n = rng.int(3); n >= 0; n--) spoiled[rng.int(spoiled.length)] = rng.int(256);
    return rng.int(4) === 0 ? spoiled.subarray(0, rng.int(spoiled.length)) : spoiled;
  };
  const world = new ResolverWorld(["a", "b"], { namespaces: ["svc", "other"] });
  for (const name of ["a", "b"]) {
    const server = world.server(name);
    server.versions = [version(1)];
    server.policyEpoch = epochOf(server.versions[0]!.head);
    Object.assign(server, { garble: spoil, garbleFetched: spoil, garblePolicy: spoil });
  }
  for (let n = 0; n < 60; n++) {
    const [name, key] = [rng.int(2) === 0 ? "a" : "b", KEYS[rng.int(KEYS.length)]!];
    if (rng.int(3) === 0) world.end(name, key, rng.int(2) === 0 ? BODY.EXPIRED : BODY.UNREGISTERED);
    else world.put(name, key, rng.int(8));
    if (rng.int(10) === 0) world.server(name).breaks = true;
    world.run(SECOND);
    for (const namespace of ["svc", "other", "elsewhere"]) world.ask({ ...DB, namespace });
  }
  expect(world.garbled).not.toEqual([]);
});

test("what one server refuses is asked of the next one at once", () => {
  const world = started("a", "b");
  world.server("a").refused = ["other"];
  world.machine.following.watch("other");
  world.run(2 * MINUTE);
  world.server("a").isUp = false;
  world.run(2 * SECOND);
  expect([world.machine.upstreams.current, world.machine.isComplete("other")]).toEqual(["b", true]);
});

test("silent servers between which others spoke cost no snapshot, however many there were", () => {
  const world = started("a", "b");
  for (let n = 0; n < 5; n++) {
    const server = world.server(world.machine.upstreams.current ?? "");
    server.isSilent = true;
    world.run(12 * SECOND);
    server.isSilent = false;
    world.run(20 * SECOND);
  }
  expect(world.server("a").snapshotCount + world.server("b").snapshotCount).toBe(1);
});

test("while the server says nothing, what is followed lags", () => {
  const world = started();
  expect(world.machine.statistics(world.now).lagMs).toBe(0);
  world.server("a").isSilent = true;
  world.run(5 * SECOND);
  expect(world.machine.statistics(world.now).lagMs).toBeGreaterThan(3 * SECOND);
});
