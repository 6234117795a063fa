/** A standstill of this node counts for no deadline that judges others, and for all that limit itself (semantics.md, Deadlines and standstills). */
import { expect, test } from "vitest";
import { Lookup } from "../../src/catalog/query/lookup.ts";
import { Slab } from "../../src/catalog/record/slab.ts";
import { Replica } from "../../src/catalog/replica/replica.ts";
import { Freshness } from "../../src/fabric/freshness.ts";
import { Heartbeats } from "../../src/fabric/heartbeats.ts";
import { Foreigners } from "../../src/fabric/links/foreigners.ts";
import { Links } from "../../src/fabric/links/links.ts";
import type { LinksOutput } from "../../src/fabric/links/options.ts";
import { Conflicts } from "../../src/fabric/membership/conflicts.ts";
import { OriginLifecycle } from "../../src/fabric/origin-lifecycle.ts";
import { Readiness } from "../../src/fabric/readiness.ts";
import { Fetches } from "../../src/fabric/replication/fetches.ts";
import type { MemberUpdate } from "../../src/fabric/wire/messages.ts";
import { Rng } from "../../src/lib/rng.ts";
import { FabricWorld, greetingOf, type WorldNode } from "../fakes/fabric-world.ts";
import { LINKS_OPTIONS, ORIGIN_LIFECYCLE_OPTIONS, POLICY_OPTIONS, READINESS_OPTIONS, REPLICATION_OPTIONS } from "../fakes/options.ts";
import { version } from "../fakes/policy-versions.ts";

const FROZEN_MS = 3_600_000;
const at = (monoMs: number) => ({ monoMs, wallMs: 1_000_000 + monoMs });

function memberOf(nodeId: string, more: Partial<MemberUpdate> = {}): MemberUpdate {
  const { capabilities: _c, clusterToken: _t, ...hello } = greetingOf(nodeId);
  const rest = { transports: ["h2"], roles: [], labels: {}, healthScore: 0, status: "alive", incarnation: 1, accuser: "" } as const;
  return { ...hello, ...rest, ...more };
}

test("an origin that is away has what it had left of its grace", () => {
  const replica = new Replica(new Lookup(), new Slab(), {
    nodeId: "me",
    generation: 1,
    lastSeq: 0,
    floor: 0,
    tombstoneTtlMs: 3_600_000,
    minTombstones: 10,
  });
  let member = memberOf("b");
  const lifecycle = new OriginLifecycle(ORIGIN_LIFECYCLE_OPTIONS, {
    replica,
    clusterId: "c1",
    findMember: () => member,
    forgetOrigin: () => undefined,
    readmit: () => undefined,
  });
  const origin = replica.origin("b", member.generation, { clusterId: "c1", region: "r1" });
  lifecycle.tick(at(0), []);
  member = memberOf("b", { status: "dead" });
  lifecycle.memberChanged(member);
  lifecycle.tick(at(1000), []);
  expect(origin.life).toBe("orphaned");
  lifecycle.postpone(FROZEN_MS);
  lifecycle.tick(at(1000 + FROZEN_MS), []);
  expect(origin.life).toBe("orphaned");
  lifecycle.tick(at(1000 + FROZEN_MS + ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs - 1), []);
  expect(origin.life).toBe("orphaned");
  lifecycle.tick(at(1000 + FROZEN_MS + ORIGIN_LIFECYCLE_OPTIONS.orphanGraceMs), []);
  expect(origin.life).toBe("hidden");
});

test("a peer whose greeting waits unread keeps its link", () => {
  const place = { clusterId: "c1", region: "r1" };
  const foreigners = new Foreigners(place, { mode: "strict", clusters: [], hasCertificates: false }, () => false);
  const peerAuth = { nodeId: "m", ...place, clusterToken: "secret", isInsecure: false, foreigners };
  const parts = { self: () => memberOf("m"), members: () => [], capabilities: () => [], peerAuth, rng: new Rng(1) };
  const links = new Links(LINKS_OPTIONS, parts);
  const said: LinksOutput[] = [];
  const identity = { address: "10.0.0.9:5555", isLoopback: true, certificate: undefined, clusterToken: "" };
  links.handle({ kind: "opened", link: 1, isIncoming: true, identity }, at(1000), said);
  links.postpone(FROZEN_MS);
  links.handle({ kind: "tick" }, at(1000 + FROZEN_MS), said);
  expect([links.find(1)?.state, links.nextDeadlineMs()]).toEqual(["greeting", 1000 + FROZEN_MS + LINKS_OPTIONS.helloTimeoutMs]);
  links.handle({ kind: "tick" }, at(1000 + FROZEN_MS + LINKS_OPTIONS.helloTimeoutMs), said);
  expect(links.find(1)).toBeUndefined();
});

test("seeds have what was left of the join timeout; the age of a snapshot goes on", () => {
  const heartbeats = new Heartbeats(() => undefined);
  const nobody = { nodeId: "me", heartbeats, clusterId: "c1", members: () => [], findMember: () => undefined, holdsOf: () => false };
  const freshness = new Freshness(nobody);
  const readiness = new Readiness(READINESS_OPTIONS, { hasSeeds: true, startAgeMs: 1, freshness });
  readiness.tick({ hasPeers: false, areSeedsHeard: true }, at(0));
  readiness.postpone(FROZEN_MS);
  readiness.tick({ hasPeers: false, areSeedsHeard: true }, at(FROZEN_MS));
  expect(readiness.read(at(FROZEN_MS))).toMatchObject({ isReady: false, ageMs: FROZEN_MS + 1 });
  readiness.tick({ hasPeers: false, areSeedsHeard: true }, at(FROZEN_MS + READINESS_OPTIONS.joinTimeoutMs));
  expect(readiness.isReady).toBe(true);
});

test("a newcomer in quarantine is not forgotten for the time in which nobody was heard", () => {
  const conflicts = new Conflicts({ maxQuarantined: 2, quarantineMs: 60_000, intervalMs: 1000 }, "c1");
  conflicts.add(memberOf("new"), "address", 0, "k");
  conflicts.postpone(FROZEN_MS);
  expect(conflicts.due(FROZEN_MS).map(({ update }) => update.nodeId)).toEqual(["new"]);
  expect([conflicts.due(FROZEN_MS + 60_000), conflicts.size]).toEqual([[], 0]);
});

/** A link over which nothing came yet. */
const silentFetcher = () => ({
  peerNodeId: "p",
  lacking: [],
  receivedMonoMs: 0,
  reconsider: () => undefined,
  disbelieve: () => undefined,
  postpone: () => undefined,
});

test("who was asked for an origin before the standstill has what was left of its time", () => {
  const fetches = new Fetches(REPLICATION_OPTIONS);
  const [first, other] = [silentFetcher(), silentFetcher()];
  const origin = { id: "b/1", through: 0 };
  expect(fetches.take(origin, first, at(1000))).toBe(true);
  fetches.postpone(FROZEN_MS);
  const dueMs = 1000 + FROZEN_MS + REPLICATION_OPTIONS.fetchTimeoutMs;
  expect([fetches.take(origin, other, at(dueMs - 1)), fetches.take(origin, other, at(dueMs))]).toEqual([false, true]);
});

/** Their loops stood still, while nothing else happened. */
function freeze(world: FabricWorld, ...nodes: readonly WorldNode[]): void {
  world.nowMs += FROZEN_MS;
  for (const node of nodes) world.input(node, { kind: "lagged", lagMs: FROZEN_MS });
}

test("all of a node that stood still hears of it: orphans stay, and a greeting, records and seeds are waited for", () => {
  const world = new FabricWorld();
  const [a, , , d] = ["a", "b", "c", "d"].map((nodeId) => world.start({ nodeId, seeds: nodeId === "a" ? [] : ["a:1"] }));
  if (a === undefined || d === undefined) throw new Error("nodes");
  world.runUntil(() => a.upLinks().length === 3);
  d.put("web");
  world.run(500);
  world.kill(d);
  world.runUntil(() => a.view()[0] === "web (orphaned)");
  const link = world.strangerOpens(a);
  const alone = world.start({ nodeId: "alone", clusterId: "c9", seeds: ["nobody:1"] });
  world.run(100);
  const asksForRecords = () => a.fabric.replication.takeFetch("far/1", silentFetcher(), world.time());
  expect(asksForRecords()).toBe(true);
  freeze(world, a, alone);
  expect(asksForRecords()).toBe(false);
  expect(a.view()).toEqual(["web (orphaned)"]);
  expect(a.fabric.links().find((each) => each.link === link)?.state).toBe("greeting");
  expect(alone.fabric.isReady).toBe(false);
  world.run(READINESS_OPTIONS.joinTimeoutMs);
  expect(alone.fabric.isReady).toBe(true);
  expect(a.fabric.links().find((each) => each.link === link)).toBeUndefined();
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
  world.run(POLICY_OPTIONS.patienceMs);
  expect(b.eventNames()).toContain("policy_not_adopted");
});

test("the time for which a node stood still is age, until its peer speaks again", () => {
  const world = new FabricWorld();
  const [a] = [world.start({ nodeId: "a", seeds: ["b:1"] }), world.start({ nodeId: "b", seeds: ["a:1"] })] as const;
  world.run(20_000);
  expect(a.fabric.readiness(world.time()).ageMs).toBeLessThan(1500);
  freeze(world, a);
  expect(a.fabric.readiness(world.time()).ageMs).toBeGreaterThan(FROZEN_MS);
  world.run(2000);
  expect(a.fabric.readiness(world.time()).ageMs).toBeLessThan(1500);
});
