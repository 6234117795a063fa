/** The whole machine, a few nodes in virtual time: joining, replication, death and return, farewells, refusals, readiness. */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/scope.ts";
import { FabricWorld, type WorldNode } from "../fakes/fabric-world.ts";

/** Nodes a, b, … that join by the first one, linked all to all and in step. */
function cluster(count: number, world = new FabricWorld()): { readonly world: FabricWorld; readonly nodes: readonly WorldNode[] } {
  const nodes: WorldNode[] = [];
  for (let i = 0; i < count; i++) {
    const nodeId = String.fromCharCode(97 + i);
    nodes.push(world.start({ nodeId, seeds: i === 0 ? [] : ["a:1"] }));
  }
  world.runUntil(() => nodes.every((node) => node.upLinks().length === count - 1), 10_000);
  return { world, nodes };
}

function pair(): { readonly world: FabricWorld; readonly a: WorldNode; readonly b: WorldNode } {
  const { world, nodes } = cluster(2);
  const [a, b] = nodes;
  if (a === undefined || b === undefined) throw new Error("two nodes");
  return { world, a, b };
}

test("nodes that know one seed link all to all within two seconds, each pair once", () => {
  const world = new FabricWorld();
  const nodes = ["a", "b", "c", "d", "e"].map((nodeId, i) => world.start({ nodeId, seeds: i === 0 ? [] : ["a:1"] }));
  const tookMs = world.runUntil(() => nodes.every((node) => node.upLinks().length === 4));
  expect(tookMs).toBeLessThan(2000);
  world.run(5000);
  for (const node of nodes) expect(node.fabric.links().map(({ state }) => state)).toEqual(["up", "up", "up", "up"]);
});

test("what is registered at one node is seen at all others, and LOCAL entries at none", () => {
  const { world, nodes } = cluster(3);
  const [a, b, c] = nodes;
  a?.put("web");
  a?.put("secret", SCOPE.LOCAL);
  b?.put("db");
  world.run(500);
  expect([a?.view(), b?.view(), c?.view()]).toEqual([
    ["db", "secret", "web"],
    ["db", "web"],
    ["db", "web"],
  ]);
});

test("a newcomer gets what is there, and is not ready before", () => {
  const { world, a } = pair();
  for (let i = 0; i < 50; i++) a.put(`s${i}`);
  world.run(1000);
  const c = world.start({ nodeId: "c", seeds: ["b:1"] });
  expect(c.fabric.readiness(world.time())).toMatchObject({ isReady: false, reason: "joining" });
  world.runUntil(() => c.fabric.readiness(world.time()).isReady, 3000);
  expect(c.view()).toHaveLength(50);
  expect(c.fabric.readiness(world.time())).toMatchObject({ reason: "caught_up" });
});
