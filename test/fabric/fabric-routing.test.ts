/** What the room's machine passes on from one part to another: each line of it is somebody's reason to act. */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { FabricWorld, type WorldNode } from "../fakes/fabric-world.ts";
import { FABRIC_OPTIONS } from "../fakes/options.ts";

function linked(count: number): { readonly world: FabricWorld; readonly nodes: readonly WorldNode[] } {
  const world = new FabricWorld();
  const nodes = Array.from({ length: count }, (_, i) => world.start({ nodeId: `n${i}`, seeds: i === 0 ? [] : ["n0:1"] }));
  world.runUntil(() => nodes.every((node) => node.upLinks().length === count - 1), 10_000);
  world.run(5000);
  return { world, nodes };
}

function nodeAt(nodes: readonly WorldNode[], place: number): WorldNode {
  const node = nodes[place];
  if (node === undefined) throw new Error(`no node ${place}`);
  return node;
}

/** Whom a node has probed directly since, at once. */
function probed(node: WorldNode, from: number): readonly string[] {
  return node.outputs.slice(from).flatMap((output) => {
    return output.kind === "call" && output.request.kind === "probe" && output.request.updates.length === 0
      ? [output.request.targetNodeId]
      : [];
  });
}

test("who loses a link without a word is probed at once; who said that it restarts is not", () => {
  const { world, nodes } = linked(6);
  const [a, b, c] = [nodeAt(nodes, 0), nodeAt(nodes, 1), nodeAt(nodes, 2)];
  const cut = a.outputs.length;
  world.cut(a, b);
  expect(probed(a, cut)).toContain("n1");
  world.run(3000);
  const stopped = a.outputs.length;
  world.input(c, { kind: "stop", reason: "restart" });
  world.runUntil(() => a.fabric.links().every(({ nodeId, state }) => nodeId !== "n2" || state !== "up"));
  expect(probed(a, stopped)).not.toContain("n2");
});

test("Why: another cluster's node has not all that ours must have: caught up with it alone, a newcomer is not ready", () => {
  const world = new FabricWorld();
  const a = world.start({ nodeId: "a" });
  const x = world.start({ nodeId: "x", clusterId: "c2", seeds: ["a:1"] });
  world.runUntil(() => x.upLinks().length === 1, 10_000);
  a.put("zone");
  x.put("theirs", SCOPE.REGION);
  world.run(1000);
  // It hears of the node of its own cluster, and cannot reach it yet.
  let isCut = true;
  const newcomer = world.start({ nodeId: "b", seeds: ["x:1"] });
  world.reaches = (from, to) => !isCut || ![from, to].includes(a) || ![from, to].includes(newcomer);
  world.runUntil(() => newcomer.view().length === 1 && newcomer.fabric.membership.find("a") !== undefined, 10_000);
  world.run(1500);
  expect([newcomer.upLinks(), newcomer.view(), newcomer.fabric.readiness.isReady]).toEqual([["x"], ["theirs"], false]);
  isCut = false;
  world.runUntil(() => newcomer.fabric.readiness.isReady, 30_000);
  expect(newcomer.view()).toEqual(["theirs", "zone"]);
});

test("a member that is forgotten is told, once, like each change before it", () => {
  const world = new FabricWorld();
  const options = { membership: { ...FABRIC_OPTIONS.membership, deadForgetMs: 60_000 } };
  const a = world.start({ nodeId: "a", options });
  const b = world.start({ nodeId: "b", seeds: ["a:1"], options });
  world.runUntil(() => a.upLinks().length === 1, 10_000);
  world.kill(b);
  world.runUntil(() => a.fabric.membership.find("b")?.status === "dead", 60_000);
  const told = () => a.outputs.filter(({ kind }) => kind === "memberForgotten");
  expect(told()).toEqual([]);
  world.runUntil(() => a.fabric.membership.find("b") === undefined, 600_000);
  expect(told()).toEqual([{ kind: "memberForgotten", nodeId: "b" }]);
});
