/** What a resolver keeps on disk: a restart serves it at once, as old as it is, and goes on from there; a copy of another kind is of no use. */
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ENTRY_TAG } from "../../gen/waymark/catalog/v1/entry_codec.ts";
import { CatalogWatchResponseSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import type { InstanceName } from "../../src/catalog/query/instances.ts";
import { BODY, KIND } from "../../src/catalog/record/record.ts";
import { type Block, blockOf, readBlock } from "../../src/lib/blocks.ts";
import { epochOf } from "../../src/policy/set/verdict.ts";
import { COPY_KIND } from "../../src/resolver/disk/codec.ts";
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
function blocksOf(copy: Uint8Array): Block[] {
  const blocks: Block[] = [];
  for (let at = 0; at < copy.length; ) {
    const block = readBlock(copy, at, blocks.length)!;
    blocks.push(block);
    at = block.end;
  }
  return blocks;
}

/** The copy with these payloads in the place of its own, sealed again. */
function forged(copy: Uint8Array, kind: number, change: (payload: Uint8Array) => Uint8Array): Uint8Array {
  const blocks = blocksOf(copy).map((block, i) => blockOf(i, block.kind, block.kind === kind ? change(block.payload) : block.payload));
  return Uint8Array.from(Buffer.concat(blocks));
}

function saying(kind: number, more: object): (copy: Uint8Array) => Uint8Array {
  return (copy) =>
    forged(copy, kind, (payload) => Buffer.from(JSON.stringify({ ...JSON.parse(Buffer.from(payload).toString()), ...more })));
}

const { HEADER, POLICY, ENTRIES, PLACE, STATE } = COPY_KIND;
const without = (kind: number) => (copy: Uint8Array) =>
  Uint8Array.from(
    Buffer.concat(
      blocksOf(copy)
        .filter((block) => block.kind !== kind)
        .map((block, i) => blockOf(i, block.kind, block.payload)),
    ),
  );

describe("a copy that is of no use changes nothing, and says why", () => {
  const world = new ResolverWorld(["a"]);
  Object.assign(world.server("a"), { versions: [version(3)], policyEpoch: epochOf(version(3).head) });
  for (const key of [DB1, DB2]) world.put("a", key);
  world.run(2 * SECOND);
  const copy = world.copy();

  function expectIgnored(bytes: Uint8Array, fault: RegExp): void {
    const ignored = world.restart(bytes);
    expect(ignored.ok ? "" : ignored.fault).toMatch(fault);
    expect([world.machine.isReady, world.replica.recordCount - world.replica.tombstoneCount, world.rooms.policies.newestNumber]).toEqual([
      false,
      0,
      0,
    ]);
    expect([world.machine.following.prefixes.list, world.ask(DB)]).toEqual([["svc"], "not_ready"]);
  }

  test.each<{ what: string; make: (copy: Uint8Array) => Uint8Array; fault: RegExp }>([
    { what: "empty", make: () => new Uint8Array(), fault: /its end is missing/ },
    { what: "longer than its end", make: (bytes) => Uint8Array.from([...bytes, 0]), fault: /cut off or changed/ },
    {
      what: "followed by another block",
      make: (bytes) => Uint8Array.from([...bytes, ...blockOf(blocksOf(bytes).length, ENTRIES, new Uint8Array())]),
      fault: /cut off or changed/,
    },
    { what: "of a newer format", make: saying(HEADER, { format: 2 }), fault: /it has the format 2, which this version/ },
    { what: "of another node", make: saying(HEADER, { nodeId: "you" }), fault: /it is of the node you/ },
    { what: "of another cluster", make: saying(HEADER, { clusterId: "c2" }), fault: /it is of the cluster c2/ },
    { what: "without a header", make: without(HEADER), fault: /does not begin with a header/ },
    { what: "without a state", make: without(STATE), fault: /its end is missing/ },
    { what: "of no time", make: saying(STATE, { savedWallMs: -1 }), fault: /when it was saved/ },
    { what: "of a negative age", make: saying(STATE, { ageMs: -1 }), fault: /its age/ },
    { what: "of no namespaces", make: saying(STATE, { prefixes: ["a..b"] }), fault: /what it holds whole/ },
    {
      what: "of too many namespaces",
      make: saying(STATE, { prefixes: Array.from({ length: 20_000 }, (_, i) => `n${i}`) }),
      fault: /what it holds whole/,
    },
    {
      what: "with too many doubts",
      make: saying(STATE, { doubted: Array.from({ length: 20_000 }, (_, i) => `n${i}`) }),
      fault: /which keys came after/,
    },
    { what: "with a state that is too large", make: saying(STATE, { more: "x".repeat(5_000_000) }), fault: /its state/ },
    { what: "with a state that is no object", make: (bytes) => forged(bytes, STATE, () => Buffer.from("7")), fault: /a block/ },
    {
      what: "with a policy that is none",
      make: (bytes) => forged(bytes, POLICY, (payload) => payload.subarray(5)),
      fault: /policy in it cannot be read/,
    },
    {
      what: "with a policy state that is none",
      make: saying(STATE, { policy: { isAwaited: 1, seen: [] } }),
      fault: /whether a policy is awaited/,
    },
    { what: "with a place that is none", make: (bytes) => forged(bytes, PLACE, () => Buffer.from("p1-xyz")), fault: /cursor/ },
    {
      what: "with an entry that is cut",
      make: (bytes) => forged(bytes, ENTRIES, (payload) => payload.subarray(0, -3)),
      fault: /malformed/,
    },
    {
      what: "with a block of entries that is too large",
      make: (bytes) => forged(bytes, ENTRIES, () => new Uint8Array(2 << 20)),
      fault: /it says entries/,
    },
    { what: "with a LOCAL entry", make: (bytes) => forged(bytes, ENTRIES, local), fault: /LOCAL|malformed/ },
  ])("$what", ({ make, fault }) => {
    expectIgnored(make(copy), fault);
  });

  test("cut at every block, and anywhere", () => {
    const ends = blocksOf(copy)
      .slice(0, -1)
      .map(({ end }) => end);
    for (const at of ends) expectIgnored(copy.subarray(0, at), /its end is missing/);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: copy.length - 1 }), (at) =>
        expectIgnored(copy.subarray(0, at), /cut off or changed|end is missing/),
      ),
      { numRuns: runs(40) },
    );
  });

  test("with one bit flipped anywhere", () => {
    fc.assert(
      fc.property(fc.nat(copy.length * 8 - 1), (bit) => {
        const bytes = Uint8Array.from(copy);
        bytes[bit >> 3]! ^= 1 << (bit & 7);
        expectIgnored(bytes, /cut off or changed/);
      }),
      { numRuns: runs(60) },
    );
  });

  test("with anything in it, sealed again: it is refused or restored, and nothing else happens", () => {
    fc.assert(
      fc.property(fc.constantFrom(HEADER, POLICY, ENTRIES, PLACE, STATE), fc.nat(), fc.nat(255), (kind, where, byte) => {
        const bytes = forged(copy, kind, (payload) => {
          const changed = Uint8Array.from(payload);
          changed[where % changed.length] = byte;
          return changed;
        });
        const { ok } = world.restart(bytes);
        if (!ok) expect([world.replica.recordCount - world.replica.tombstoneCount, world.rooms.policies.newestNumber]).toEqual([0, 0]);
      }),
      { numRuns: runs(200) },
    );
  });

  test("with more than this resolver may hold", () => {
    const { ok } = world.restart(copy, { options: { maxEntries: 1 } });
    expect([ok, world.replica.recordCount - world.replica.tombstoneCount, world.ask(DB)]).toEqual([false, 0, "not_ready"]);
  });
});

/** The first entry, made LOCAL. */
function local(payload: Uint8Array): Uint8Array {
  const at = payload.findIndex(
    (byte, i) => byte === ENTRY_TAG.scope && payload[i + 1] === SCOPE.ZONE && payload[i + 2] === ENTRY_TAG.clusterId,
  );
  return payload.with(at + 1, SCOPE.LOCAL);
}

test("what changes while the copy is made is in it as it is at its end", () => {
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
  const state: unknown = JSON.parse(Buffer.from(blocksOf(copy).at(-1)!.payload).toString());
  expect(state).toMatchObject({ doubted: [KEYS[4]] });
  world.server("a").isUp = false;
  world.restart(copy);
  expect([world.ask({ ...DB, namespace: "svc.eu" }), world.machine.bookmarks.isAtBookmark]).toEqual(["disk stale 1", false]);
  world.run(5 * SECOND);
  expect(world.ask({ ...DB, namespace: "svc.eu" })).toBe("followed 0");
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
  ).toThrow("tombstones were collected meanwhile");
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
  expect([restartCount > 8, diskCount]).toEqual([true, restartCount]);
});
