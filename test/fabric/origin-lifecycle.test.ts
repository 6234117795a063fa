/** What membership means for origins: orphaned, hidden, forgotten, back, protected (semantics.md, Orphans). */
import { expect, test } from "vitest";
import { EntryIndex } from "../../src/catalog/query/entry-index.ts";
import { Slab } from "../../src/catalog/record/slab.ts";
import type { Origin } from "../../src/catalog/record/stored-record.ts";
import { Replica } from "../../src/catalog/replica/replica.ts";
import type { FabricOutput } from "../../src/fabric/io-types.ts";
import { OriginLifecycle, type OriginLifecycleOptions } from "../../src/fabric/origin-lifecycle.ts";
import type { MemberStatus, MemberUpdate } from "../../src/fabric/wire/messages.ts";
import type { Time } from "../../src/lib/machine.ts";
import { FabricComponent, KEYS } from "../fakes/mesh.ts";
import { lifecycleParts, ORIGIN_LIFECYCLE_OPTIONS } from "../fakes/options.ts";

const HOUR_MS = 3_600_000;

/** A node "me" of cluster c1 that knows of origins and members. */
class Bench {
  readonly replica: Replica;
  readonly lifecycle: OriginLifecycle;
  readonly outputs: FabricOutput[] = [];
  readonly members = new Map<string, MemberUpdate>();
  nowMs = 1000;
  ticks = 0;

  constructor(options: Partial<OriginLifecycleOptions> = {}, replica?: Replica) {
    const numbers = { nodeId: "me", generation: 1, lastSeq: 0, floor: 0, tombstoneTtlMs: HOUR_MS, minTombstones: 10 };
    this.replica = replica ?? new Replica(new EntryIndex(), new Slab(), numbers);
    const parts = lifecycleParts(this.replica, (nodeId) => this.members.get(nodeId));
    this.lifecycle = new OriginLifecycle({ ...ORIGIN_LIFECYCLE_OPTIONS, ...options }, parts);
  }

  get time(): Time {
    return { monoMs: this.nowMs, wallMs: 0 };
  }

  origin(nodeId: string, generation = 1, clusterId = "c1"): Origin {
    const origin = this.replica.origin(nodeId, generation, { clusterId, region: "r1" });
    this.lifecycle.recordsArrived({ nodeId, generation });
    return origin;
  }

  /** Membership says so. */
  say(nodeId: string, status: MemberStatus, more: Partial<MemberUpdate> = {}): void {
    const facts = { nodeId, generation: 1, address: `${nodeId}:1`, clusterId: "c1", region: "r1", zone: "z", version: "1" };
    const rest = { protocolVersions: [2], transports: [], roles: [], labels: {}, healthScore: 0, incarnation: 1, accuser: "" };
    const update = { ...facts, ...rest, status, ...more };
    this.members.set(nodeId, update);
    this.lifecycle.memberChanged(update);
  }

  run(forMs: number): void {
    const untilMs = this.nowMs + forMs;
    for (;;) {
      const dueMs = Math.max(this.nowMs, this.lifecycle.nextDeadlineMs());
      if (dueMs > untilMs) break;
      this.nowMs = dueMs;
      this.ticks += 1;
      this.lifecycle.look(this.time, this.outputs);
    }
    this.nowMs = untilMs;
  }

  /** `node/generation life` of every origin. */
  state(): readonly string[] {
    return [...this.replica.origins.values()].filter(({ nodeId }) => nodeId !== "me").map(({ id, life }) => `${id} ${life}`);
  }

  eventNames(): readonly string[] {
    return this.outputs.flatMap((output) => (output.kind === "event" ? [output.event.name] : []));
  }
}

test.each([
  ["alive", undefined, "live"],
  ["suspect", undefined, "live"],
  ["dead", undefined, "orphaned"],
  ["left", undefined, "orphaned"],
] as const)("the origin of a member that is %s", (status, _none, life) => {
  const bench = new Bench();
  bench.origin("a");
  bench.say("a", status);
  bench.run(0);
  expect(bench.state()).toEqual([`a/1 ${life}`]);
});

test("an origin that membership never heard of is orphaned from when it is noticed", () => {
  const bench = new Bench();
  bench.origin("a");
  bench.run(ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs - 1);
  expect(bench.state()).toEqual(["a/1 orphaned"]);
  bench.run(1);
  expect(bench.state()).toEqual(["a/1 hidden"]);
});

test("dead: orphaned at once, hidden after the grace, forgotten after a day, taken again when it is back", () => {
  const bench = new Bench();
  bench.origin("a");
  bench.say("a", "alive");
  bench.run(HOUR_MS);
  bench.say("a", "dead");
  bench.run(0);
  expect(bench.state()).toEqual(["a/1 orphaned"]);
  bench.run(ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs);
  expect(bench.state()).toEqual(["a/1 hidden"]);
  bench.run(ORIGIN_LIFECYCLE_OPTIONS.originForgetMs - ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs - 1);
  expect(bench.state()).toEqual(["a/1 hidden"]);
  bench.run(1);
  expect([bench.state(), [...bench.replica.forgotten.keys()]]).toEqual([[], ["a/1"]]);
  bench.say("a", "alive");
  expect([...bench.replica.forgotten.keys()]).toEqual([]);
  expect(bench.eventNames()).toEqual(["origin_orphaned", "origin_hidden", "origin_forgotten"]);
});

test.each(["orphaned", "hidden"])("an origin that is %s is live again as soon as its member is", (life) => {
  const bench = new Bench();
  bench.origin("a");
  bench.say("a", "alive");
  bench.run(0);
  bench.say("a", "dead");
  bench.run(life === "orphaned" ? 1000 : ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs);
  expect(bench.state()).toEqual([`a/1 ${life}`]);
  bench.say("a", "alive");
  bench.run(0);
  expect(bench.state()).toEqual(["a/1 live"]);
  // Its grace starts anew when it goes again.
  bench.run(HOUR_MS);
  bench.say("a", "dead");
  bench.run(ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs - 1);
  expect(bench.state()).toEqual(["a/1 orphaned"]);
});

test("what a node said in an earlier generation is orphaned as soon as the next is known; a generation that is news stays live", () => {
  const bench = new Bench();
  bench.origin("a", 1);
  bench.say("a", "alive");
  bench.run(0);
  bench.origin("a", 2);
  bench.run(0);
  expect(bench.state()).toEqual(["a/1 live", "a/2 live"]);
  bench.say("a", "alive", { generation: 2 });
  bench.run(0);
  expect(bench.state()).toEqual(["a/1 orphaned", "a/2 live"]);
  bench.run(ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs);
  expect(bench.state()).toEqual(["a/1 hidden", "a/2 live"]);
});

test("a generation that its node never says it lives in is an orphan after a restart's time, until the node does say so", () => {
  const { restartMs, orphanGraceMs } = ORIGIN_LIFECYCLE_OPTIONS;
  const bench = new Bench();
  bench.say("a", "alive");
  bench.origin("a", 2);
  bench.run(restartMs - 1);
  expect(bench.state()).toEqual(["a/2 live"]);
  bench.run(1);
  expect([bench.state(), bench.eventNames()]).toEqual([["a/2 orphaned"], ["origin_orphaned"]]);
  bench.run(orphanGraceMs);
  expect(bench.state()).toEqual(["a/2 hidden"]);
  bench.say("a", "alive", { generation: 2 });
  bench.run(orphanGraceMs);
  expect(bench.state()).toEqual(["a/2 live"]);
});

test("a generation that its node went back from, as its disk was put back, is an orphan a restart's time later", () => {
  const { restartMs } = ORIGIN_LIFECYCLE_OPTIONS;
  const bench = new Bench();
  bench.origin("a", 2);
  bench.say("a", "alive", { generation: 2 });
  bench.run(10 * restartMs);
  bench.say("a", "alive", { generation: 1 });
  bench.run(restartMs / 2);
  expect(bench.state()).toEqual(["a/2 live"]);
  // It stood still: so much longer may the news be on its way.
  bench.lifecycle.postpone(restartMs);
  bench.run(restartMs);
  expect(bench.state()).toEqual(["a/2 live"]);
  bench.run(restartMs / 2);
  expect(bench.state()).toEqual(["a/2 orphaned"]);
});

test("what nobody took over when its node stopped is orphaned, and neither hidden nor forgotten while it is known why", () => {
  const b = new Bench();
  b.origin("a");
  b.say("a", "alive");
  b.run(1000);
  b.say("a", "alive", { keepsEntries: true, incarnation: 2 });
  b.lifecycle.away("a", b.time);
  b.run(1000);
  b.say("a", "dead", { keepsEntries: true, incarnation: 2 });
  b.run(72 * HOUR_MS);
  expect(b.state()).toEqual(["a/1 orphaned"]);
  // Forgotten by membership since.
  b.members.delete("a");
  b.run(72 * HOUR_MS);
  expect(b.state()).toEqual(["a/1 orphaned"]);
  b.say("a", "alive", { incarnation: 3 });
  b.run(1000);
  expect(b.state()).toEqual(["a/1 live"]);
  // A death of a life that promised nothing counts as ever.
  b.say("a", "dead", { incarnation: 3 });
  b.run(HOUR_MS);
  expect(b.state()).toEqual(["a/1 hidden"]);
});

test("what its node stopped with is not hidden where the grace is shorter than a restart, nor where that word comes late", () => {
  const short = new Bench({ orphanGraceMs: ORIGIN_LIFECYCLE_OPTIONS.restartMs / 2 });
  short.origin("a");
  short.say("a", "alive");
  short.run(1000);
  short.say("a", "alive", { keepsEntries: true, incarnation: 2 });
  short.lifecycle.away("a", short.time);
  short.run(1000);
  short.say("a", "dead", { keepsEntries: true, incarnation: 2 });
  short.run(HOUR_MS);
  expect(short.state()).toEqual(["a/1 orphaned"]);

  // Cut off, this node sees a death, and hears why only when the cut is healed.
  const late = new Bench();
  late.origin("a");
  late.say("a", "alive");
  late.run(1000);
  late.say("a", "dead");
  late.run(HOUR_MS);
  expect(late.state()).toEqual(["a/1 hidden"]);
  late.say("a", "dead", { keepsEntries: true, incarnation: 2 });
  late.run(HOUR_MS);
  expect(late.state()).toEqual(["a/1 orphaned"]);
});

test("what its node stopped with is taken again where that word comes after it was forgotten, and then stands", () => {
  const b = new Bench();
  b.origin("a");
  b.say("a", "alive");
  b.run(1000);
  b.say("a", "dead");
  b.run(25 * HOUR_MS);
  expect([b.state(), b.replica.forgotten.has("a/1")]).toEqual([[], true]);
  b.say("a", "dead", { keepsEntries: true, incarnation: 2 });
  expect(b.replica.forgotten.has("a/1")).toBe(false);
  b.origin("a");
  b.run(72 * HOUR_MS);
  expect(b.state()).toEqual(["a/1 orphaned"]);
});

test("our own earlier generation is an orphan", () => {
  const numbers = { nodeId: "me", generation: 2, lastSeq: 0, floor: 0, tombstoneTtlMs: HOUR_MS, minTombstones: 10 };
  const bench = new Bench({}, new Replica(new EntryIndex(), new Slab(), numbers));
  const old = bench.origin("me", 1);
  bench.run(0);
  expect([old.life, bench.replica.self.life]).toEqual(["orphaned", "live"]);
});

test("a node that said it restarts is away at once, and back with its greeting, or by itself after a while", () => {
  const bench = new Bench();
  bench.origin("a");
  bench.say("a", "alive");
  bench.run(0);
  bench.lifecycle.away("a", bench.time);
  bench.run(0);
  expect(bench.state()).toEqual(["a/1 orphaned"]);
  bench.lifecycle.back("a");
  bench.run(0);
  expect(bench.state()).toEqual(["a/1 live"]);
  bench.lifecycle.away("a", bench.time);
  bench.run(ORIGIN_LIFECYCLE_OPTIONS.restartMs);
  expect(bench.state()).toEqual(["a/1 live"]);
});

/** Five of c1 (this node one of them) and two of c2. */
function meshed(options: Partial<OriginLifecycleOptions> = {}): Bench {
  const bench = new Bench(options);
  for (const nodeId of ["a", "b", "c", "d"]) {
    bench.origin(nodeId);
    bench.say(nodeId, "alive");
  }
  for (const nodeId of ["x", "y"]) {
    bench.origin(nodeId, 1, "c2");
    bench.say(nodeId, "alive", { clusterId: "c2" });
  }
  bench.run(1000);
  return bench;
}

test.each([
  ["two of five", "hidden", ["a", "b"], 1000],
  ["three of five, one after the other within the window", "orphaned", ["a", "b", "c"], 9000],
  ["three of five, in the course of minutes", "hidden", ["a", "b", "c"], 40_000],
  ["all of the others", "orphaned", ["a", "b", "c", "d"], 0],
  ["both of another cluster", "orphaned", ["x", "y"], 0],
] as const)("%s vanish: after the grace they are %s", (_what, life, nodeIds, everyMs) => {
  const bench = meshed();
  for (const nodeId of nodeIds) {
    bench.say(nodeId, "dead", { clusterId: bench.replica.origins.get(`${nodeId}/1`)?.clusterId ?? "" });
    bench.run(everyMs);
  }
  bench.run(20 * ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs);
  expect(nodeIds.map((nodeId) => bench.replica.origins.get(`${nodeId}/1`)?.life)).toEqual(nodeIds.map(() => life));
  expect(bench.lifecycle.protectedClusters()).toHaveLength(life === "hidden" ? 0 : 1);
});

test("protection ends when enough are back; who is still missing has the whole grace once more", () => {
  const bench = meshed();
  for (const nodeId of ["a", "b", "c", "d"]) bench.say(nodeId, "dead");
  bench.run(HOUR_MS);
  expect([bench.lifecycle.protectedClusters(), bench.lifecycle.counts()]).toEqual([["c1"], { live: 2, orphaned: 4, hidden: 0, kept: 0 }]);
  bench.say("a", "alive");
  bench.run(0);
  expect(bench.lifecycle.protectedClusters()).toEqual(["c1"]);
  bench.say("b", "alive");
  bench.run(ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs - 1);
  expect([bench.lifecycle.protectedClusters(), bench.lifecycle.counts()]).toEqual([[], { live: 4, orphaned: 2, hidden: 0, kept: 0 }]);
  bench.run(1);
  expect(bench.lifecycle.counts()).toEqual({ live: 4, orphaned: 0, hidden: 2, kept: 0 });
  expect(bench.eventNames()).toEqual(expect.arrayContaining(["orphans_protected", "orphans_unprotected"]));
});

test("a node that died again and again without its disk is one node that vanished", () => {
  const bench = new Bench();
  for (const generation of [1, 2, 3]) {
    bench.origin("a", generation);
    bench.say("a", "alive", { generation });
    bench.run(1000);
    bench.say("a", "dead", { generation });
    bench.run(1000);
  }
  expect([bench.lifecycle.protectedClusters(), bench.eventNames()]).toEqual([[], expect.not.arrayContaining(["orphans_protected"])]);
});

test.each([
  ["nodes are back without their disks, though nothing is heard of their new generation", ["a", "b"], 2, 2],
  ["other nodes join in place of the dead, of which none is back", ["e", "f"], 1, 4],
] as const)("protection ends too when %s", (_what, nodeIds, generation, live) => {
  const bench = meshed();
  for (const nodeId of ["a", "b", "c", "d"]) bench.say(nodeId, "dead");
  bench.run(HOUR_MS);
  for (const nodeId of nodeIds) {
    expect(bench.lifecycle.protectedClusters()).toEqual(["c1"]);
    if (generation === 1) bench.origin(nodeId);
    bench.say(nodeId, "alive", { generation });
    bench.run(0);
  }
  expect(bench.lifecycle.protectedClusters()).toEqual([]);
  bench.run(ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs);
  expect(bench.lifecycle.counts()).toEqual({ live, orphaned: 0, hidden: 4, kept: 0 });
});

test("those who left or restart in good order do not count as vanished", () => {
  const bench = meshed();
  for (const nodeId of ["a", "b", "c", "d"]) bench.say(nodeId, "left");
  bench.run(ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs);
  expect([bench.lifecycle.protectedClusters(), bench.lifecycle.counts().hidden]).toEqual([[], 4]);
});

test("Why: nothing is forgotten while its cluster is protected: the records could not be given back", () => {
  const bench = meshed();
  for (const nodeId of ["a", "b", "c", "d"]) bench.say(nodeId, "dead");
  bench.run(3 * ORIGIN_LIFECYCLE_OPTIONS.originForgetMs);
  expect(bench.lifecycle.counts()).toEqual({ live: 2, orphaned: 4, hidden: 0, kept: 0 });
});

test("a large origin's records are visited in slices, each once, and the view follows", () => {
  const [source, here] = [new FabricComponent("a"), new FabricComponent("me")];
  const time = { monoMs: 0, wallMs: 0 };
  for (const key of KEYS) source.put(key, 0, time);
  source.commit(time);
  here.copy(source, "a/1", time);
  const bench = new Bench({ maxTouches: 3 }, here.replica);
  bench.say("a", "alive");
  bench.run(0);
  bench.say("a", "dead");
  const before = bench.ticks;
  const revision = here.replica.revision;
  bench.lifecycle.look(bench.time, bench.outputs);
  expect(bench.lifecycle.isSettling).toBe(true);
  bench.run(0);
  expect(bench.lifecycle.isSettling).toBe(false);
  expect(bench.ticks - before).toBeGreaterThanOrEqual(Math.floor(KEYS.length / 3));
  expect(here.replica.revision - revision).toBe(1 + KEYS.length);
  bench.run(ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs);
  expect(here.replica.lookup.size).toBe(0);
  bench.say("a", "alive");
  bench.run(0);
  expect(here.replica.lookup.size).toBe(KEYS.length);
});

test("a large origin is hidden and then forgotten in slices, and until the last of them nobody is told that all is there", () => {
  const [source, here] = [new FabricComponent("a"), new FabricComponent("me")];
  const time = { monoMs: 0, wallMs: 0 };
  for (const key of KEYS) source.put(key, 0, time);
  source.commit(time);
  here.copy(source, "a/1", time);
  // Its time to be forgotten comes before it is hidden.
  const bench = new Bench({ maxTouches: 3, originForgetMs: 1000, orphanGraceMs: 1000 }, here.replica);
  bench.say("a", "alive");
  bench.run(0);
  const origin = here.replica.origins.get("a/1");
  bench.say("a", "dead");
  bench.run(0);
  bench.nowMs += 1000;
  const seen: [number, number | undefined, boolean][] = [];
  do {
    bench.lifecycle.look(bench.time, bench.outputs);
    seen.push([here.replica.lookup.size, origin?.log.size, here.replica.origins.has("a/1")]);
  } while (bench.lifecycle.isSettling || bench.lifecycle.nextDeadlineMs() === 0);
  const slices = Math.ceil(KEYS.length / 3);
  const visible = seen.map(([count]) => count);
  expect(visible.slice(0, slices)).toEqual(Array.from({ length: slices }, (_, i) => Math.max(0, KEYS.length - 3 * (i + 1))));
  expect(seen.filter(([count, , isKnown]) => !isKnown && count > 0)).toEqual([]);
  expect(seen.filter(([, held, isKnown]) => !isKnown && held !== 0).length).toBe(slices - 1);
  expect([origin?.log.size, here.replica.forgotten.has("a/1"), bench.lifecycle.nextDeadlineMs() === 0]).toEqual([0, true, false]);
});

test("a node that vanished counts on when what it was before it lost its disk is forgotten meanwhile", () => {
  const bench = meshed({ orphanGraceMs: 30_000, originForgetMs: 60_000 });
  bench.origin("a", 2);
  bench.say("a", "alive", { generation: 2 });
  bench.run(55_000);
  bench.say("a", "dead", { generation: 2 });
  bench.run(10_000);
  expect(bench.replica.origins.has("a/1")).toBe(false);
  for (const nodeId of ["b", "c"]) bench.say(nodeId, "dead");
  bench.run(0);
  expect(bench.lifecycle.protectedClusters()).toEqual(["c1"]);
});

test("what this node itself was in an earlier generation is over: it keeps no tombstone up, and did not vanish", () => {
  const bench = new Bench({ orphanProtectMinCount: 1, orphanProtectRatio: 0 });
  bench.origin("me", 0);
  bench.run(0);
  const [before] = [...bench.replica.origins.values()].filter(({ generation }) => generation === 0);
  expect([before === undefined ? undefined : bench.lifecycle.isOver(before), bench.lifecycle.isAnybodyAway]).toEqual([true, false]);
});
