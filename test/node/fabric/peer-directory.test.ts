/** What services are told of the mesh, read from real fabrics in virtual time. */
import { expect, test } from "vitest";
import type { Time } from "../../../src/lib/machine.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { PeerActivity } from "../../../src/node/core/peer-activity.ts";
import type { NodeNotice } from "../../../src/node/core-io.ts";
import { FabricPeers, fabricReadiness, peerDirectory } from "../../../src/node/fabric/peer-directory.ts";
import type { NodeCore } from "../../../src/node/rooms.io.ts";
import { FabricWorld, type WorldNode } from "../../fakes/fabric-world.ts";

const WELL = { fabricFault: "" };

/** The first of `count` nodes that know each other, as services see it. */
function watched(count: number) {
  const world = new FabricWorld();
  const nodes = Array.from({ length: count }, (_, i) => world.start({ nodeId: `n${i}`, seeds: i === 0 ? [] : ["n0:1"] }));
  world.runUntil(() => nodes.every((node) => node.upLinks().length === count - 1), 10_000);
  const [node] = nodes;
  if (node === undefined) throw new Error("no node");
  const { fabric, replica } = node;
  const heard = new PeerActivity(fabric, new Metrics());
  const machine = {
    ageMs: (time: Time) => fabric.readiness.read(time).ageMs,
    fabric,
    heardWallMs: (nodeId: string) => heard.heardWallMs(nodeId),
    readiness: { isReady: true, isServing: true },
    writeEligibility: { fault: "" },
  };
  // Of a whole node only these are read.
  const core = { identity: { nodeId: "n0", clusterId: "c1" }, replica, machine } satisfies Partial<
    Record<keyof NodeCore, unknown>
  > as unknown as NodeCore;
  return { world, nodes, node, machine, core, view: peerDirectory(core), peers: new FabricPeers(core, { follow: () => () => {} }) };
}

const present = ({ world, view, nodes }: ReturnType<typeof watched>): readonly string[] =>
  nodes.flatMap(({ spec: { nodeId } }) => {
    const presence = view.presence(nodeId, world.time());
    return presence === undefined ? [] : [`${nodeId} ${presence.status}`];
  });

function leave(world: FabricWorld, node: WorldNode | undefined): void {
  if (node === undefined) throw new Error("no node");
  world.input(node, { kind: "stop", reason: "leave" });
  world.runUntil(() => node.fabric.isStopped(world.time()));
  world.kill(node);
}

test("who left or died is present no more; who is only suspected still is, and says so; nobody else ever was", () => {
  const all = watched(4);
  const { world, nodes, view } = all;
  expect(present(all)).toEqual(["n0 alive", "n1 alive", "n2 alive", "n3 alive"]);
  leave(world, nodes[1]);
  const [, , dying] = nodes;
  if (dying === undefined) throw new Error("no node");
  world.kill(dying, "machine");
  world.runUntil(() => present(all).includes("n2 suspect"), 30_000);
  expect(present(all)).toEqual(["n0 alive", "n2 suspect", "n3 alive"]);
  world.runUntil(() => !present(all).includes("n2 suspect"), 60_000);
  expect([present(all), view.presence("stranger", world.time())]).toEqual([["n0 alive", "n3 alive"], undefined]);
});

test("a node has peers as long as somebody of its cluster is listed", () => {
  const { world, nodes, view } = watched(2);
  expect(view.hasPeers()).toBe(true);
  leave(world, nodes[1]);
  expect(view.hasPeers()).toBe(false);
});

test("the age is that of the readiness, looked at twenty times a second at most, and goes on meanwhile", () => {
  const { world, nodes, node, view } = watched(2);
  world.run(10_000);
  expect(view.ageMs(world.time())).toBeLessThan(1500);
  const [, other] = nodes;
  if (other === undefined) throw new Error("no node");
  // Its process stands still, its sockets do not.
  other.isFrozen = true;
  world.reaches = (from, to) => from !== other && to !== other;
  world.run(5500);
  const { ageMs } = node.fabric.readiness.read(world.time());
  expect(ageMs).toBeGreaterThan(4000);
  expect(view.ageMs(world.time())).toBe(ageMs);
  world.run(20);
  expect(view.ageMs(world.time())).toBe(ageMs + 20);
  world.run(60);
  expect(view.ageMs(world.time())).toBe(ageMs + 80);
});

test("a node that is ready tells no more how old it was before that", () => {
  const { world, view, machine } = watched(2);
  machine.readiness.isReady = false;
  machine.ageMs = () => 1e9;
  expect(view.ageMs(world.time())).toBe(1e9);
  world.run(5);
  machine.readiness.isReady = true;
  machine.ageMs = () => 0;
  expect(view.ageMs(world.time())).toBe(0);
});

test("members are told with what this node measured: which is itself, who is linked, how far probes go", () => {
  const { world, peers } = watched(3);
  world.run(10_000);
  const rows = peers.members(world.time()).toSorted((a, b) => (a.nodeId < b.nodeId ? -1 : 1));
  expect(rows.map(({ nodeId, isSelf, isLinked }) => [nodeId, isSelf, isLinked])).toEqual([
    ["n0", true, false],
    ["n1", false, true],
    ["n2", false, true],
  ]);
  expect(rows.map(({ rttMs }) => (rttMs === undefined ? undefined : Math.round(rttMs)))).toEqual([undefined, 4, 4]);
  expect(peers.member("stranger", world.time())).toBeUndefined();
});

test("a change of the node's own facts is a change of a member, and time alone is none", () => {
  const { world, node, core } = watched(2);
  const selfChanges = () => node.outputs.filter(({ kind }) => kind === "selfChanged").length;
  const before = selfChanges();
  world.run(1000);
  expect(selfChanges()).toBe(before);
  world.input(node, { kind: "facts", facts: { ...node.facts, labels: { rack: "7" } } });
  expect(selfChanges()).toBe(before + 1);
  const changed: string[] = [];
  const driver = {
    follow: (follower: (notice: NodeNotice) => void) => {
      follower({ kind: "selfChanged" });
      return () => {};
    },
  };
  new FabricPeers(core, driver).follow((nodeId) => changed.push(nodeId));
  expect(changed).toEqual(["n0"]);
});

test("what a row shows, apart from the values of probes, changes only with a notice of the member", () => {
  const { world, nodes, node, core } = watched(4);
  const noticed = new Set<string>();
  const driver = {
    follow: (follower: (notice: NodeNotice) => void) => {
      for (const output of node.outputs.splice(0)) follower(output as NodeNotice);
      return () => {};
    },
  };
  const peers = new FabricPeers(core, driver);
  const shown = () =>
    new Map(peers.members(world.time()).map(({ lastSeenWallMs: _seen, rttMs: _rtt, ...row }) => [row.nodeId, JSON.stringify(row)]));
  let before = shown();
  let [changes, linkChanges] = [0, 0];
  for (let step = 0; step < 400; step++) {
    if (step === 20)
      for (const each of nodes.slice(0, 2)) world.input(each, { kind: "facts", facts: { ...each.facts, labels: { rack: "7" } } });
    if (step === 40) world.kill(nodes[2] ?? node, "machine");
    world.run(250);
    noticed.clear();
    linkChanges += node.outputs.filter(({ kind }) => kind === "linkChanged").length;
    peers.follow((nodeId) => noticed.add(nodeId));
    const after = shown();
    for (const nodeId of new Set([...before.keys(), ...after.keys()]))
      if (before.get(nodeId) !== after.get(nodeId)) {
        changes += 1;
        expect(noticed, `${nodeId}: ${before.get(nodeId)} → ${after.get(nodeId)}`).toContain(nodeId);
      }
    before = after;
  }
  expect(changes).toBeGreaterThan(3);
  expect(linkChanges).toBeGreaterThan(0);
});

test("the story of a suspicion names who accused, by which path, and when it ends; a stranger has none", () => {
  const { world, nodes, peers } = watched(4);
  const [, , dying] = nodes;
  if (dying === undefined) throw new Error("no node");
  world.kill(dying, "machine");
  world.runUntil(() => peers.member("n2", world.time())?.status === "suspect", 30_000);
  const story = peers.story("n2", world.time());
  expect(story.events.at(-1)?.status).toBe("suspect");
  expect(["n0", "n1", "n3"]).toContain(story.events.at(-1)?.accuser);
  expect(["direct", "indirect", "gossip", "table"]).toContain(story.events.at(-1)?.path);
  const leftMs = (story.suspicionEndsWallMs ?? 0) - world.time().wallMs;
  expect(leftMs).toBeGreaterThan(0);
  expect(leftMs).toBeLessThanOrEqual(5000 * 6);
  world.runUntil(() => peers.member("n2", world.time())?.status === "dead", 60_000);
  expect(peers.story("n2", world.time())).toMatchObject({ suspicionEndsWallMs: undefined });
  expect(peers.story("stranger", world.time())).toEqual({ events: [], suspicionEndsWallMs: undefined, confirmedBy: [] });
});

test("an event has the incarnation it is about, also when the member has contradicted since", () => {
  const { world, nodes, peers } = watched(4);
  const [, , doubted] = nodes;
  world.reaches = (from, to) => from !== doubted && to !== doubted;
  world.runUntil(() => peers.member("n2", world.time())?.status === "suspect", 30_000);
  const doubtedAt = peers.member("n2", world.time())?.incarnation ?? 0;
  world.reaches = () => true;
  world.runUntil(() => peers.member("n2", world.time())?.status === "alive", 30_000);
  const aliveAt = peers.member("n2", world.time())?.incarnation ?? 0;
  expect(aliveAt).toBeGreaterThan(doubtedAt);
  const of = (kind: string) =>
    new Set(peers.story("n2", world.time()).events.flatMap((each) => (each.status === kind ? [each.incarnation] : [])));
  expect([of("suspect"), of("alive")]).toEqual([new Set([doubtedAt]), new Set([aliveAt])]);
});

test("lag: what a peer says exists and is not here yet is behind, by origin and by link", () => {
  const { world, nodes, peers, node } = watched(2);
  const [, other] = nodes;
  if (other === undefined) throw new Error("no node");
  other.put("web");
  world.run(500);
  const held = () => peers.lag(world.time()).origins.find(({ nodeId }) => nodeId === "n1");
  expect(held()).toMatchObject({ through: 1, known: 1 });
  // A peer that tells of more than it sends.
  const link = node.fabric.links()[0]?.link ?? 0;
  const entries = [{ nodeId: "n1", generation: 1, seq: 5, floor: 0 }];
  world.input(node, { kind: "received", link, frame: { kind: "vector", entries, digest: 0n, isPartial: true, isWanted: false } });
  expect(held()).toMatchObject({ through: 1, known: 5 });
  world.nowMs += 300;
  expect(peers.lag(world.time()).links).toMatchObject([{ nodeId: "n1", state: "up", behind: 4, behindMs: 300 }]);
});

test.each(["x", "eu/x"])("lag: an origin of which a peer refused records, and nobody gave any, is told as not whole: %s", (nodeId) => {
  const { world, nodes, peers, node } = watched(2);
  expect(peers.lag(world.time())).toMatchObject({ isCaughtUp: true });
  const link = node.fabric.links()[0]?.link ?? 0;
  const entries = [{ nodeId, generation: 3, seq: 0, floor: 0, isLacking: true, lackingThrough: 9 }];
  world.input(node, { kind: "received", link, frame: { kind: "vector", entries, digest: 0n, isPartial: true, isWanted: false } });
  const { isCaughtUp, origins } = peers.lag(world.time());
  expect(isCaughtUp).toBe(false);
  const why = expect.stringContaining("n1 refused records of this origin") as unknown;
  const row = { nodeId, generation: 3, life: "unknown", through: 0, known: 9, floor: 0, refused: 0, whyPartial: why };
  expect(origins.filter((told) => told.nodeId === nodeId)).toEqual([row]);
  expect(nodes).toHaveLength(2);
});

test("lag: what is known of an origin is the highest that any link tells, whatever the others tell", () => {
  const { world, nodes, peers, node } = watched(3);
  for (const each of nodes) each.put(each.spec.nodeId);
  world.run(500);
  const links = node.fabric.links().map(({ link }) => link);
  expect(links).toHaveLength(2);
  for (const [first, second] of [links, links.toReversed()]) {
    for (const [link, seq] of [
      [first, 9],
      [second, 5],
    ] as const) {
      const entries = [{ nodeId: "n1", generation: 1, seq, floor: 0 }];
      world.input(node, {
        kind: "received",
        link: link ?? 0,
        frame: { kind: "vector", entries, digest: 0n, isPartial: true, isWanted: false },
      });
    }
    const known = peers.lag(world.time()).origins.flatMap((row) => (row.nodeId === "n1" ? [row.known] : []));
    expect(known).toEqual([9]);
  }
});

test("lag says what is protected", () => {
  const { world, nodes, peers } = watched(5);
  for (const node of nodes) node.put(node.spec.nodeId);
  world.run(500);
  expect(peers.lag(world.time())).toMatchObject({ isReady: true, isCaughtUp: true, isProtected: false });
  for (const node of nodes.slice(2)) world.kill(node, "machine");
  world.runUntil(() => peers.lag(world.time()).isProtected, 60_000);
  expect(peers.lag(world.time()).detail).toContain("entries of c1 stay visible, because many nodes disappeared at the same time");
});

test("readiness counts the others as people do, and a node whose others have left is in step with nobody", () => {
  const { world, nodes, node, peers } = watched(3);
  const detail = () => fabricReadiness(node.fabric, WELL, world.time()).detail;
  world.runUntil(() => detail() === "in sync with all peers; 2 other members", 30_000);
  leave(world, nodes[1]);
  world.runUntil(() => detail() === "in sync with all peers; 1 other member", 30_000);
  leave(world, nodes[2]);
  world.runUntil(() => detail() === "no peers left; no other members", 30_000);
  expect(peers.lag(world.time()).detail).toBe("no peers left");
});

test("readiness gives the number of dead members when no other member is alive", () => {
  const { world, nodes, node } = watched(3);
  const detail = () => fabricReadiness(node.fabric, WELL, world.time()).detail;
  world.runUntil(() => detail() === "in sync with all peers; 2 other members", 30_000);
  for (const other of nodes.slice(1)) world.kill(other, "machine");
  world.runUntil(() => node.fabric.membership.counts().dead === 2, 120_000);
  expect(detail()).toMatch(/; no other member is alive \(2 dead\)$/);
});

test("a node whose word about itself most others refuse is no member: it is not ready, and says why", () => {
  const { world, node } = watched(2);
  const odd = world.start({ nodeId: "odd", seeds: ["n1:1"], roles: Array.from({ length: 17 }, (_, i) => `r${i}`) });
  world.runUntil(() => odd.fabric.membership.refusers().length === 2 && odd.fabric.readiness.isReady, 120_000);
  expect(odd.eventNames()).toContain("own_update_refused");
  const { ok, detail } = fabricReadiness(odd.fabric, { fabricFault: "most other nodes refuse it" }, world.time());
  expect(ok).toBe(false);
  expect(detail).toContain(
    "this node's member record is rejected by n1 (it has too many roles, labels, transports, border rules or protocol versions, or one of them is too long",
  );
  expect(fabricReadiness(node.fabric, WELL, world.time())).toEqual({
    ok: true,
    detail: "in sync with all peers; 1 other member",
  });
});

test("the fabric's line of /readyz is not ready and says why, as gRPC health is", () => {
  const { world, node } = watched(2);
  world.runUntil(() => node.fabric.readiness.isReady, 60_000);
  const { ok, detail } = fabricReadiness(node.fabric, { fabricFault: "another process with node id n0 answers" }, world.time());
  expect(ok).toBe(false);
  expect(detail).toMatch(/^another process with node id n0 answers; /);
});
