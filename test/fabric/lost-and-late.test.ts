/** What must not be lost by being late: numbers that only strangers know, tombstones while somebody is silent, back-off of links that flap. */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { FabricWorld } from "../fakes/fabric-world.ts";
import { FABRIC_OPTIONS } from "../fakes/options.ts";
import { drain, open, ReplicatingNode, run, Wire } from "../fakes/replication.ts";

test("Why: a node whose journal is an old one hears of it also where only another cluster knows more", () => {
  const far = new ReplicatingNode({ nodeId: "x", clusterId: "c2" });
  const before = new ReplicatingNode({ nodeId: "a" });
  const wire = new Wire(before, far, 0);
  for (let n = 0; n < 5; n++) before.put(`k${n}`, 0, { scope: SCOPE.REGION });
  run([wire], 0, 2000);
  expect(far.vector()).toContain("a/1 5");
  wire.close();
  const restored = new ReplicatingNode({ nodeId: "a" });
  const [told] = drain(open(far, restored, 3000), far.timeOf(3000));
  expect(told).toMatchObject({ kind: "vector", entries: [{ nodeId: "a", generation: 1, seq: 5 }] });
  run([new Wire(restored, far, 3000)], 3000, 500);
  expect(restored.outputs).toContainEqual({ kind: "generationLost", peerNodeId: "x", seq: 5 });
});

test("another cluster is believed that our journal is an old one once, and not where somebody of our own cluster is there to say it", () => {
  for (const hasOwnPeer of [false, true]) {
    const node = new ReplicatingNode({ nodeId: "a" });
    node.put("k", 0, { scope: SCOPE.REGION });
    if (hasOwnPeer) node.shared.linkedTo({ relation: "cluster" });
    const isLost = (monoMs: number) => node.shared.isLostAbroad(1_000_000, node.timeOf(monoMs));
    expect([isLost(1000), isLost(1000 + 3_600_000)]).toEqual([!hasOwnPeer, false]);
  }
});

test("P6: no tombstone goes while a member is silent, though it is not dead to anybody yet", () => {
  const world = new FabricWorld();
  const [a, b] = ["a", "b", "c", "d", "e", "f"].map((nodeId, i) => world.start({ nodeId, seeds: i === 0 ? [] : ["a:1"] }));
  if (a === undefined || b === undefined) throw new Error("nodes");
  const may = (): boolean => a.fabric.mayCollect(world.time());
  world.runUntil(may, 90_000);
  // Its process stands still; the others hear nothing of it, and their streams do not end.
  b.isFrozen = true;
  world.reaches = (from, to) => from !== b && to !== b;
  world.runUntil(() => !a.fabric.readiness.read(world.time()).isInStep, 20_000);
  expect([a.fabric.membership.find("b")?.status === "dead", a.fabric.lifecycle.isAnybodyAway, may()]).toEqual([false, false, false]);
});

test("P6: no tombstone goes while a member is away that had written nothing yet: what it writes meanwhile comes with it", () => {
  const world = new FabricWorld();
  const [a, b] = ["a", "b", "c", "d", "e", "f"].map((nodeId, i) => world.start({ nodeId, seeds: i === 0 ? [] : ["a:1"] }));
  if (a === undefined || b === undefined) throw new Error("nodes");
  const may = (): boolean => a.fabric.mayCollect(world.time());
  world.runUntil(may, 90_000);
  world.reaches = (from, to) => (from === b) === (to === b);
  for (const other of world.nodes.values()) world.cut(b, other);
  world.runUntil(() => a.fabric.membership.find("b")?.status === "dead");
  expect([a.replica.origins.has("b/1"), a.fabric.readiness.read(world.time()).isInStep]).toEqual([false, true]);
  for (let second = 0; second < 60; second++) {
    world.run(1000);
    expect(may()).toBe(false);
  }
  world.reaches = () => true;
  world.runUntil(may, 120_000);
  expect(a.fabric.membership.find("b")?.status).toBe("alive");
});

test("a link that is lost as soon as it is up is tried ever more rarely; one that held for a while is not", () => {
  const world = new FabricWorld();
  const [a, b] = ["a", "b"].map((nodeId, i) => world.start({ nodeId, seeds: i === 0 ? [] : ["a:1"] }));
  if (a === undefined || b === undefined) throw new Error("nodes");
  const isUp = (): boolean => a.upLinks().length === 1 && b.upLinks().length === 1;
  world.runUntil(isUp, 10_000);
  const waitsMs = Array.from({ length: 12 }, () => {
    world.cut(a, b);
    return world.runUntil(isUp, 30_000);
  });
  expect(Math.max(...waitsMs.slice(6))).toBeGreaterThan(1500);
  world.run(20_000);
  world.cut(a, b);
  expect(world.runUntil(isUp, 30_000)).toBeLessThan(1000);
});

test("P6: who was forgotten and comes back has time to hear of all tombstones; then none is held for it any more", () => {
  const options = { lifecycle: { ...FABRIC_OPTIONS.lifecycle, orphanGraceMs: 20_000, originForgetMs: 60_000 } };
  const world = new FabricWorld();
  const nodes = ["a", "b", "c"].map((nodeId, i) => world.start({ nodeId, seeds: i === 0 ? [] : ["a:1"], options }));
  const [a, b] = nodes;
  if (a === undefined || b === undefined) throw new Error("nodes");
  for (const node of nodes) node.put(node.spec.nodeId);
  const may = (): boolean => a.fabric.mayCollect(world.time());
  world.runUntil(may, 90_000);
  world.reaches = (from, to) => (from === b) === (to === b);
  for (const other of nodes) if (other !== b) world.cut(b, other);
  world.runUntil(() => a.replica.lost.isHolding, 200_000);
  world.reaches = () => true;
  world.runUntil(() => a.view().includes("b"), 60_000);
  expect(may()).toBe(false);
  world.runUntil(may, 90_000);
  expect(a.replica.lost.isHolding).toBe(false);
});
