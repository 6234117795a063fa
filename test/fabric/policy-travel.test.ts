/** The policy among whole fabrics in virtual time. */
import { expect, test } from "vitest";
import { FabricWorld, type WorldNode } from "../fakes/fabric-world.ts";
import { type Version, version } from "../fakes/policy-versions.ts";

function start(world: FabricWorld, count: number): readonly WorldNode[] {
  const nodes = Array.from({ length: count }, (_, i) => world.start({ nodeId: `n${i}`, seeds: i === 0 ? [] : ["n0:1"] }));
  world.runUntil(() => nodes.every((node) => node.upLinks().length === count - 1), 10_000);
  return nodes;
}

function isSettled({ fabric }: WorldNode): boolean {
  return fabric.links().every(({ link, state }) => state !== "up" || fabric.policy.isSettledWith(link));
}

function hasAll(nodes: readonly WorldNode[], { head }: Version): boolean {
  return nodes.every((node) => node.policy?.head.checksum === head.checksum && isSettled(node));
}

test("what is applied at one node is at all others within half a second, also in many parts", () => {
  const world = new FabricWorld();
  const nodes = start(world, 4);
  const large = version(1, "n2", 5000);
  expect(large.bytes.length).toBeGreaterThan(1_000_000);
  nodes[2]?.keepPolicy(large);
  expect(world.runUntil(() => hasAll(nodes, large))).toBeLessThan(500);
  const next = version(2, "n0");
  nodes[0]?.keepPolicy(next);
  expect(world.runUntil(() => hasAll(nodes, next))).toBeLessThan(500);
});

test("a newcomer gets nothing and is not ready before the cluster's policy is in force there", () => {
  const world = new FabricWorld();
  const [a] = start(world, 2);
  const newest = version(3, "n0");
  a?.keepPolicy(newest);
  a?.put("web");
  world.run(1000);
  world.adoptMs = 2000;
  const late = world.start({ nodeId: "late", seeds: ["n1:1"] });
  world.runUntil(() => late.upLinks().length === 2);
  world.run(1000);
  expect([late.view().length, late.policy, late.fabric.readiness.read(world.time()).reason]).toEqual([0, undefined, "catching_up"]);
  world.runUntil(() => late.fabric.readiness.read(world.time()).isReady, 3000);
  expect([late.view().length, late.policy?.head]).toEqual([1, newest.head]);
});

test("what was applied on both sides of a partition is one policy after it, the later one of the higher number", () => {
  const world = new FabricWorld();
  const nodes = start(world, 4);
  const isLeft = (node: WorldNode) => nodes.indexOf(node) < 2;
  world.reaches = (from, to) => isLeft(from) === isLeft(to);
  for (const a of nodes.slice(0, 2)) for (const b of nodes.slice(2)) world.cut(a, b);
  const [left, right] = [version(1, "n0", 2, 4096), version(1, "n3", 3, 8192)];
  nodes[0]?.keepPolicy(left);
  nodes[3]?.keepPolicy(right);
  world.runUntil(() => hasAll(nodes.slice(0, 2), left) && hasAll(nodes.slice(2), right));
  world.run(20_000);
  world.reaches = () => true;
  world.runUntil(() => hasAll(nodes, right), 30_000);
  expect(nodes.flatMap((node) => node.eventNames()).filter((name) => name === "policy_conflict").length).toBeGreaterThan(0);
});

test("a node that was away adopts what was applied meanwhile", () => {
  const world = new FabricWorld();
  const nodes = start(world, 3);
  const [old, newest] = [version(1, "n0"), version(2, "n1")];
  nodes[0]?.keepPolicy(old);
  world.runUntil(() => hasAll(nodes, old));
  const [, , away] = nodes;
  if (away === undefined) throw new Error("three nodes");
  world.kill(away);
  nodes[1]?.keepPolicy(newest);
  world.run(5000);
  const back = world.start({ nodeId: "n2", seeds: ["n0:1"], generation: 2 });
  back.keepPolicy(old);
  world.runUntil(() => back.fabric.readiness.read(world.time()).isReady, 10_000);
  expect(back.policy?.head).toEqual(newest.head);
});

test("a node whose fabric is open takes no policy, and is not ready beside a peer that has one: it would show what that hides", () => {
  const world = new FabricWorld();
  const [a] = start(world, 2);
  a?.keepPolicy(version(3, "n0"));
  a?.put("web");
  world.run(1000);
  const open = world.start({ nodeId: "open", seeds: ["n1:1"], isOpen: true });
  world.run(20_000);
  expect([open.view().length, open.policy, open.fabric.readiness.isReady]).toEqual([1, undefined, false]);
});

test("a policy goes to who accepts its cluster and with that on to who accepts those, and to nobody else", () => {
  const world = new FabricWorld();
  const a = world.start({ nodeId: "n0", clusterId: "a" });
  const b = world.start({ nodeId: "b0", clusterId: "b", seeds: ["n0:1"], policyFrom: ["a"] });
  const c = world.start({ nodeId: "c0", clusterId: "c", seeds: ["n0:1"], policyFrom: ["b"] });
  const d = world.start({ nodeId: "d0", clusterId: "d", seeds: ["n0:1"] });
  const all = [a, b, c, d];
  world.runUntil(() => all.every((node) => node.upLinks().length === 3), 10_000);
  const newest = version(1, "n0");
  a.keepPolicy(newest);
  world.run(5000);
  expect(all.map((node) => node.policy?.head.number)).toEqual([1, 1, 1, undefined]);
  expect(d.fabric.policy.notTaken).toMatchObject({ head: { number: 1 } });
  const later = version(2, "d0");
  d.keepPolicy(later);
  world.run(5000);
  expect(all.map((node) => node.policy?.head.number)).toEqual([1, 1, 1, 2]);
});

test("a newcomer without members of its own cluster waits for one of a cluster it accepts, if there is one", () => {
  const world = new FabricWorld();
  const b = world.start({ nodeId: "n0", clusterId: "b" });
  const x = world.start({ nodeId: "x0", clusterId: "x", seeds: ["n0:1"] });
  world.runUntil(() => x.upLinks().length === 1, 10_000);
  b.keepPolicy(version(1, "n0"));
  world.run(1000);
  const isReady = (node: WorldNode) => node.fabric.readiness.isReady;
  world.adoptMs = 2000;
  const waits = world.start({ nodeId: "w0", clusterId: "w", seeds: ["x0:1"], policyFrom: ["b"] });
  const own = world.start({ nodeId: "o0", clusterId: "o", seeds: ["x0:1"] });
  world.runUntil(() => isReady(own), 10_000);
  world.runUntil(() => waits.upLinks().length > 1, 10_000);
  expect([isReady(waits), waits.policy]).toEqual([false, undefined]);
  world.runUntil(() => isReady(waits), 10_000);
  expect([waits.policy?.head.number, own.policy]).toEqual([1, undefined]);
});
