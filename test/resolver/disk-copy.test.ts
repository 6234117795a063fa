/** What a resolver keeps on disk: a restart serves it at once, as old as it is, and goes on from there; a copy of another kind is of no use. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { CatalogWatchResponseSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import type { InstanceName } from "../../src/catalog/query/instances.ts";
import { BODY, KIND } from "../../src/catalog/record/record.ts";
import { epochOf } from "../../src/policy/set/verdict.ts";
import { copyBound } from "../../src/resolver/disk/disk-copy.ts";
import { runs } from "../fakes/effort.ts";
import { KEYS } from "../fakes/mesh.ts";
import { version } from "../fakes/policy-versions.ts";
import { act, expectAsServers, SERVERS, take } from "../fakes/resolver-acts.ts";
import { ResolverWorld } from "../fakes/resolver-world.ts";

const DB: InstanceName = { kind: KIND.SERVICE, namespace: "svc", name: "db" };
const WEB: InstanceName = { kind: KIND.FUNCTION, namespace: "svc", name: "web" };
const OTHER: InstanceName = { kind: KIND.SERVICE, namespace: "other", name: "db" };
const [DB1, DB2, WEB1] = [KEYS[0]!, KEYS[1]!, KEYS[2]!];
const OTHER1 = KEYS[12]!;
const SECOND = 1000;
const HOUR = 3600 * SECOND;

function started(options = {}): ResolverWorld {
  const world = new ResolverWorld(["a", "b"], options);
  for (const key of [DB1, DB2, OTHER1]) world.put("a", key);
  world.run(2 * SECOND);
  return world;
}

test("the bound of a copy follows from what a resolver may hold: each entry takes less on disk than in memory", () => {
  const world = new ResolverWorld(["a"], { namespaces: ["svc", "other"] });
  world.run(2 * SECOND);
  const [copyBytes, heldBytes] = [world.copy().length, world.machine.statistics(world.now).sizeBytes];
  for (const [i, key] of KEYS.entries()) world.put("a", key, i);
  world.run(2 * SECOND);
  const entries = world.machine.lookups.reduce((count, { size }) => count + size, 0);
  expect(entries).toBeGreaterThan(10);
  expect(world.copy().length - copyBytes).toBeLessThan(world.machine.statistics(world.now).sizeBytes - heldBytes);
  expect(copyBound(2 ** 40) - copyBound(2 ** 30)).toBe(2 ** 40 - 2 ** 30);
});

function ageOf(world: ResolverWorld, name = DB): number | undefined {
  return world.machine.ask(name, () => {}, world.now, [])?.ageMs;
}

test("with every server gone a restart serves the copy at once, as stale and from disk, and is ready", () => {
  const world = started();
  const copy = world.copy();
  for (const name of ["a", "b"]) world.server(name).isUp = false;
  expect(world.restart(copy)).toMatchObject({ ok: true, entryCount: 2 });
  expect([world.machine.isReady, world.ask(DB), world.ask(WEB)]).toEqual([true, "disk stale 2", "disk stale 0"]);
  world.run(10 * SECOND);
  // What is in no copy is unknown, not empty.
  expect([world.ask(DB), world.ask(OTHER)]).toEqual(["disk stale 2", "not_ready"]);
});

test("what a copy has is not said to be absent while it does not follow the policy of the copy yet", () => {
  const world = started();
  const copy = world.copy();
  world.restart(copy, { isSwitched: false });
  expect([world.machine.policy.isReady, world.machine.isReady]).toEqual([false, false]);
  world.restart(copy);
  expect([world.machine.policy.isReady, world.machine.isReady]).toEqual([true, true]);
});

test("a restart goes on from the place in the copy, without a snapshot, and from its first bookmark on it is as any other", () => {
  const world = started();
  const copy = world.copy();
  world.put("a", WEB1);
  world.end("a", DB1, BODY.UNREGISTERED);
  const before = world.server("a").snapshotCount + world.server("b").snapshotCount;
  world.restart(copy);
  expect([world.ask(DB), world.ask(WEB)]).toEqual(["disk stale 2", "disk stale 0"]);
  // So its own readers go on from there too.
  expect(world.machine.bookmarks.isAtBookmark).toBe(true);
  world.run(2 * SECOND);
  expect([world.ask(DB), world.ask(WEB)]).toEqual(["followed 1", "followed 1"]);
  expect(world.server("a").snapshotCount + world.server("b").snapshotCount).toBe(before);
});

test("a copy is as old as it was when it was saved, and the time since; no silent server makes it younger", () => {
  const world = started();
  world.server("a").ageMs = 5000;
  world.run(2 * SECOND);
  const age = ageOf(world)!;
  world.restart(world.copy(), { downMs: HOUR });
  expect([age >= 5000, ageOf(world)]).toEqual([true, age + HOUR]);
  for (const name of ["a", "b"]) world.server(name).isSilent = true;
  world.run(SECOND);
  expect([ageOf(world), world.ask(DB)]).toEqual([age + HOUR + SECOND, "disk stale 2"]);
  for (const name of ["a", "b"]) world.server(name).isSilent = false;
  world.run(20 * SECOND);
  expect(world.ask(DB)).toBe("followed 2");
});

test("a clock that was set back leaves the age of a copy unknown", () => {
  const world = started();
  world.restart(world.copy(), { clockMs: -HOUR });
  expect([ageOf(world), world.ask(DB)]).toEqual([Number.POSITIVE_INFINITY, "disk stale 2"]);
  // A copy of this restart says so too.
  world.restart(world.copy(), { clockMs: HOUR });
  expect(ageOf(world)).toBe(Number.POSITIVE_INFINITY);
});

test.each([
  { what: "nothing", namespaces: ["other"], db: "not_ready", eu: "not_ready" },
  { what: "a part", namespaces: ["svc.eu", "other"], db: "not_ready", eu: "disk stale 1" },
  { what: "all, and more", namespaces: [""], db: "disk stale 2", eu: "disk stale 1" },
])("of what is not configured any more nothing is restored: $what of it is wanted", ({ namespaces, db, eu }) => {
  const world = started();
  world.put("a", KEYS[4]!);
  world.run(2 * SECOND);
  world.restart(world.copy(), { options: { namespaces } });
  expect([world.ask(DB), world.ask({ ...DB, namespace: "svc.eu" })]).toEqual([db, eu]);
  world.run(5 * SECOND);
  expect(world.machine.isReady).toBe(true);
  for (const name of [DB, OTHER]) if (world.ask(name) === "told") world.ask(name);
  expect([world.ask(DB), world.ask(OTHER)]).toEqual([expect.stringMatching(/^(followed|fetched) 2$/), "followed 1"]);
});

test("a namespace that was asked for often is in the copy, and is followed on", () => {
  const world = started();
  for (let n = 0; n < 5; n++) world.ask(OTHER);
  world.run(2 * SECOND);
  const copy = world.copy();
  for (const name of ["a", "b"]) world.server(name).isUp = false;
  world.restart(copy);
  expect(world.ask(OTHER)).toBe("disk stale 1");
  expect(world.machine.following.prefixes.list).toEqual(["other", "svc"]);
  world.restart(copy, { options: { maxWatches: 1 } });
  expect([world.ask(OTHER), world.ask(DB)]).toEqual(["not_ready", "disk stale 2"]);
});

test("what is let go, and is followed for some seconds more, is not followed again after a restart", () => {
  const world = started();
  for (let n = 0; n < 5; n++) world.ask(OTHER);
  world.run(2 * SECOND);
  world.machine.following.release(["other"]);
  expect(world.ask(OTHER)).toBe("followed 1");
  world.restart(world.copy());
  expect(world.machine.following.prefixes.list).toEqual(["svc"]);
});

test("the policy of the copy is in force until there is a newer one; an older one never is again", () => {
  const world = started();
  for (const name of ["a", "b"]) Object.assign(world.server(name), { versions: [version(3)], policyEpoch: epochOf(version(3).head) });
  world.restart(world.copy());
  world.run(2 * SECOND);
  expect(world.machine.isReady).toBe(true);
  const copy = world.copy();
  for (const name of ["a", "b"]) Object.assign(world.server(name), { versions: [version(2)], policyEpoch: epochOf(version(2).head) });
  world.restart(copy);
  expect([world.rooms.policies.inForce?.number, world.machine.isReady]).toEqual([3, true]);
  world.run(5 * SECOND);
  expect(world.rooms.policies.inForce?.number).toBe(3);
  for (const name of ["a", "b"]) Object.assign(world.server(name), { versions: [version(4)], policyEpoch: epochOf(version(4).head) });
  world.restart(copy);
  world.run(5 * SECOND);
  expect(world.rooms.policies.inForce?.number).toBe(4);
});

test("who lacked a policy of which it had heard lacks it after a restart", () => {
  const world = started();
  Object.assign(world.server("a"), { policyEpoch: epochOf(version(2).head) });
  world.run(2 * SECOND);
  expect(world.machine.isReady).toBe(false);
  const copy = world.copy();
  world.restart(copy);
  expect([world.ask(DB), world.machine.isReady]).toEqual(["disk stale 2", false]);
});

/** The blocks of a copy, with their places. */
test("what changes while the copy is made is in it is at its end", () => {
  const world = started();
  const keys = Array.from({ length: 400 }, (_, i) => DB1.replace("\u00001\u0000c1", `\u0000x${i}\u0000c1`));
  for (const key of keys) world.put("a", key, 6);
  world.run(2 * SECOND);
  let turn = 0;
  const copy = world.copy(() => {
    turn += 1;
    if (turn === 2) for (const key of [DB1, keys[399]!]) world.end("a", key, BODY.UNREGISTERED);
    if (turn < 10) for (const key of [WEB1, keys[1]!]) world.put("a", key, turn % 2);
    // It goes and comes back, each time after the copy has told of it.
    if (turn < 10 && turn % 2 === 0) world.end("a", keys[0]!, BODY.UNREGISTERED);
    else if (turn < 10) world.put("a", keys[0]!);
    if (turn < 10) world.run(SECOND);
  });
  expect(turn).toBeGreaterThan(9);
  const held = [DB, WEB].map((name) => world.instances(name));
  expect(held.map((lines) => lines.length)).toEqual([400, 1]);
  for (const name of ["a", "b"]) world.server(name).isUp = false;
  world.restart(copy);
  expect([DB, WEB].map((name) => world.instances(name))).toEqual(held);
});

test("what was told after the last bookmark, and is nowhere else, does not outlive a restart", () => {
  const world = started();
  // The change reaches this server alone, which is lost before it gives a place.
  const { node } = world.server("a");
  world.server("a").garble = (bytes) =>
    toBinary(CatalogWatchResponseSchema, { ...fromBinary(CatalogWatchResponseSchema, bytes), portableCursor: "" });
  node.put(KEYS[4]!, 0, world.now);
  node.commit(world.now);
  world.run(100);
  expect(world.ask({ ...DB, namespace: "svc.eu" })).toBe("followed 1");
  const copy = world.copy();
  world.server("a").isUp = false;
  world.restart(copy);
  expect([world.ask({ ...DB, namespace: "svc.eu" }), world.machine.bookmarks.isAtBookmark]).toEqual(["disk stale 1", false]);
  // The first bookmark of another server ends it, before any silence does.
  world.run(2 * SECOND);
  expect(world.ask({ ...DB, namespace: "svc.eu" })).toBe("followed 0");
});

test("what was fetched beside it from a server that is lost before a bookmark of both does not outlive a restart either", () => {
  const world = started({ namespaces: ["svc"] });
  // What this server has alone comes with the snapshot of a namespace that is followed anew.
  const { node } = world.server("a");
  node.put(KEYS[13]!, 0, world.now);
  node.commit(world.now);
  for (let n = 0; n < 5; n++) world.ask(OTHER);
  for (let n = 0; n < 100 && !world.machine.isComplete("other"); n++) world.run(10, 10);
  expect([world.machine.isComplete("other"), world.instances({ ...OTHER, name: "db" }).length]).toEqual([true, 2]);
  const copy = world.copy();
  world.server("a").isUp = false;
  world.restart(copy);
  expect(world.ask(OTHER)).toBe("disk stale 2");
  world.run(2 * SECOND);
  expect(world.ask(OTHER)).toBe("followed 1");
});

test("what an upstream without places says does not make sure what another one told before the restart", () => {
  const world = started();
  const { node } = world.server("a");
  const hidesPlaces = (bytes: Uint8Array) =>
    toBinary(CatalogWatchResponseSchema, { ...fromBinary(CatalogWatchResponseSchema, bytes), portableCursor: "" });
  for (const name of ["a", "b"]) world.server(name).garble = hidesPlaces;
  node.put(KEYS[4]!, 0, world.now);
  node.commit(world.now);
  world.run(100);
  const copy = world.copy();
  world.server("a").isUp = false;
  world.restart(copy);
  world.run(2 * SECOND);
  expect(world.ask({ ...DB, namespace: "svc.eu" })).toBe("disk stale 1");
});

test("what ended before a copy was begun needs no place in it, however much that was", { tags: ["night"] }, () => {
  const world = started();
  const keys = Array.from({ length: 2000 }, (_, i) => DB1.replace("\u00001\u0000c1", `\u0000${"x".repeat(120)}${i}\u0000c1`));
  for (const key of keys) world.put("a", key);
  world.run(SECOND);
  for (const key of keys) world.end("a", key, BODY.UNREGISTERED);
  world.run(SECOND);
  expect(world.replica.tombstoneCount).toBeGreaterThan(1000);
  expect(world.restart(world.copy())).toMatchObject({ ok: true, entryCount: 2 });
});

test("a copy fails when what ended meanwhile cannot be known any more", () => {
  const world = started();
  for (let i = 0; i < 400; i++) world.put("a", DB1.replace("\u00001\u0000c1", `\u0000x${i}\u0000c1`), 6);
  world.run(2 * SECOND);
  expect(() =>
    world.copy(() => {
      world.end("a", DB1, BODY.UNREGISTERED);
      world.run(100);
      world.replica.collect({ monoMs: 1e12, wallMs: 1e13 }, 1000);
    }),
  ).toThrow("tombstones were collected while the copy was being made");
});

test("a policy that takes the number of another one is worth another copy", () => {
  const world = started({ random: () => 0.01 });
  const marks = [version(3), version(3, "n2", 1, 4 * 2048), version(4, "n2")].map((one) => {
    for (const name of ["a", "b"]) Object.assign(world.server(name), { versions: [one], policyEpoch: epochOf(one.head) });
    // What is open is opened again, and tells what there is now.
    world.changeCredentials();
    world.run(2 * SECOND);
    expect(world.rooms.policies.policy.checksum).toBe(one.head.checksum);
    return [world.replica.revision, world.machine.copyMark].join(" of ");
  });
  expect([new Set(marks).size, new Set(marks.map((mark) => mark.split(" ")[0])).size]).toEqual([3, 1]);
});

const turn = fc.oneof({ weight: 4, arbitrary: act }, { weight: 1, arbitrary: fc.constantFrom("copy", "restart") });

test("whatever happened, a restart with any of its copies ends as a resolver that never stopped", () => {
  let [restartCount, diskCount] = [0, 0];
  fc.assert(
    fc.property(fc.array(turn, { minLength: 1, maxLength: 60, size: "max" }), (turns) => {
      const world = new ResolverWorld(SERVERS);
      let copy: Uint8Array | undefined;
      const save = () => {
        if (world.machine.copyMark !== undefined) copy = world.copy();
      };
      turns.forEach((one, i) => {
        if (one === "copy") save();
        else if (one !== "restart") take(world, one);
        else if (copy !== undefined) {
          expect(world.restart(copy, { downMs: i * 100 })).toMatchObject({ ok: true });
          expect([world.machine.isReady, ageOf(world)! >= i * 100]).toEqual([true, true]);
          restartCount += 1;
          if (world.ask(DB).startsWith("disk stale")) diskCount += 1;
        }
      });
      expectAsServers(world);
    }),
    { numRuns: runs(15) },
  );
  expect([restartCount > runs(8), diskCount]).toEqual([true, restartCount]);
});
