/** A standstill of this node counts for no deadline that judges others, and for all that limit itself (semantics.md, Deadlines and standstills). */
import { expect, test } from "vitest";
import { FabricWorld, type WorldNode } from "../fakes/fabric-world.ts";
import {
  LINKS_OPTIONS,
  MEMBERSHIP_OPTIONS,
  ORIGIN_LIFECYCLE_OPTIONS,
  POLICY_OPTIONS,
  READINESS_OPTIONS,
  REPLICATION_OPTIONS,
} from "../fakes/options.ts";
import { version } from "../fakes/policy-versions.ts";
import { MemberBench, said } from "./membership-bench.ts";

const FROZEN_MS = 3_600_000;

test("a newcomer in conflict with a member is not forgotten for the time in which nobody was heard", () => {
  const bench = new MemberBench();
  const answered = bench.onProbe;
  bench.onProbe = (call) => (call.request.kind === "probe" && call.request.targetNodeId === "new" ? undefined : answered(call));
  bench.hear([said("old", "alive", { address: "x:1" }), said("new", "alive", { address: "x:1" })]);
  const waiting = () => bench.machine.counts().conflicts;
  const { conflictMs } = MEMBERSHIP_OPTIONS;
  // It wakes up late, and has what was left.
  bench.freeze(FROZEN_MS);
  bench.runUntil(FROZEN_MS + conflictMs - 2000);
  expect(waiting()).toBe(1);
  bench.runUntil(FROZEN_MS + conflictMs + 2000);
  expect(waiting()).toBe(0);
});

/** A link over which nothing came yet. */
const silentFetcher = () => ({
  peerNodeId: "p",
  lacking: [],
  hasWholeVector: true,
  receivedMonoMs: 0,
  reconsider: () => undefined,
  disbelieve: () => undefined,
  postpone: () => undefined,
});

/** Their loops stood still, while nothing else happened. */
function freeze(world: FabricWorld, ...nodes: readonly WorldNode[]): void {
  world.nowMs += FROZEN_MS;
  for (const node of nodes) world.input(node, { kind: "lagged", lagMs: FROZEN_MS });
}

/** Is so for so long, and then no more. */
function expectFor(world: FabricWorld, forMs: number, isSo: () => boolean): void {
  world.run(forMs - 1);
  expect(isSo()).toBe(true);
  world.run(2);
  expect(isSo()).toBe(false);
}

test("an origin that is away has what it had left of its grace", () => {
  const world = new FabricWorld();
  const [a, , , d] = ["a", "b", "c", "d"].map((nodeId) => world.start({ nodeId, seeds: nodeId === "a" ? [] : ["a:1"] }));
  if (a === undefined || d === undefined) throw new Error("nodes");
  world.runUntil(() => a.upLinks().length === 3);
  d.put("web");
  world.run(500);
  world.kill(d);
  const isOrphan = () => a.view()[0] === "web (orphaned)";
  while (!isOrphan()) world.run(1);
  world.run(1000);
  freeze(world, a);
  expectFor(world, ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs - 1000, isOrphan);
});

test("a peer whose greeting waits unread keeps its link", () => {
  const world = new FabricWorld();
  const a = world.start({ nodeId: "a" });
  const link = world.strangerOpens(a);
  world.run(100);
  freeze(world, a);
  expectFor(world, LINKS_OPTIONS.helloTimeoutMs - 100, () =>
    a.fabric.links().some((each) => each.link === link && each.state === "greeting"),
  );
});

test("seeds have what was left of the join timeout; the age of a snapshot goes on", () => {
  const world = new FabricWorld();
  const a = world.start({ nodeId: "a", seeds: ["nobody:1"], startAgeMs: 1 });
  world.run(100);
  freeze(world, a);
  expect(a.fabric.readiness.read(world.time())).toMatchObject({ isReady: false, ageMs: FROZEN_MS + 101 });
  expectFor(world, READINESS_OPTIONS.joinTimeoutMs - 100, () => !a.fabric.readiness.isReady);
});

test("who was asked for an origin before the standstill has what was left of its time", () => {
  const world = new FabricWorld();
  const a = world.start({ nodeId: "a" });
  const [first, other] = [silentFetcher(), silentFetcher()];
  const ask = (who: typeof first) => a.fabric.replication.takeFetch("far/1", who, world.time());
  expect(ask(first)).toBe(true);
  world.run(100);
  freeze(world, a);
  expectFor(world, REPLICATION_OPTIONS.fetchTimeoutMs - 100, () => !ask(other));
});

test("a version of the policy that is being put in force while the node stands still is not given up", () => {
  const world = new FabricWorld();
  const [a, b] = ["a", "b"].map((nodeId) => world.start({ nodeId, seeds: nodeId === "a" ? [] : ["a:1"] }));
  if (a === undefined || b === undefined) throw new Error("nodes");
  world.runUntil(() => a.upLinks().length === 1);
  world.adoptMs = 1e9;
  a.keepPolicy(version(1, "a"));
  world.runUntil(() => b.outputs.some(({ kind }) => kind === "adoptPolicy"));
  freeze(world, b);
  expect(b.eventNames()).not.toContain("policy_not_adopted");
  world.run(POLICY_OPTIONS.timeoutMs);
  expect(b.eventNames()).toContain("policy_not_adopted");
});

test("the time for which a node stood still is age, until its peer speaks again", () => {
  const world = new FabricWorld();
  const [a] = [world.start({ nodeId: "a", seeds: ["b:1"] }), world.start({ nodeId: "b", seeds: ["a:1"] })] as const;
  world.run(20_000);
  expect(a.fabric.readiness.read(world.time()).ageMs).toBeLessThan(1500);
  freeze(world, a);
  expect(a.fabric.readiness.read(world.time()).ageMs).toBeGreaterThan(FROZEN_MS);
  world.run(2000);
  expect(a.fabric.readiness.read(world.time()).ageMs).toBeLessThan(1500);
});
