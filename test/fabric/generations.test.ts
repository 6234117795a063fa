/** A node that goes on in a new generation: what others hold of the one before ends with it. */
import { expect, test } from "vitest";
import { startNewGeneration } from "../../src/catalog/replica/new-generation.ts";
import { FabricWorld, type WorldNode } from "../fakes/fabric-world.ts";

function pair() {
  const world = new FabricWorld("generations");
  const a = world.start({ nodeId: "a" });
  const b = world.start({ nodeId: "b", seeds: ["a:1"] });
  world.run(5000);
  return { world, a, b };
}

/** As the node does when others know more of it than its journal has, or another start went under its id. */
function renew(world: FabricWorld, node: WorldNode): void {
  startNewGeneration(node.replica, node.replica.self.generation + 1);
  world.input(node, { kind: "facts", facts: { ...node.facts, generation: node.replica.self.generation } });
  world.input(node, { kind: "tick" });
}

test.each([
  { name: "heard of the new one first", goneMs: 0 },
  { name: "cut off while the lease ran out", goneMs: 20_000 },
])("a lease that ends in a new generation ends what others hold of the old one: $name", ({ goneMs }) => {
  const { world, a, b } = pair();
  a.put("brief");
  world.run(2000);
  expect([a.view(), b.view()]).toEqual([["brief"], ["brief"]]);
  world.reaches = () => goneMs === 0;
  renew(world, a);
  world.run(500);
  a.endAll();
  world.run(goneMs);
  world.reaches = () => true;
  world.run(goneMs === 0 ? 3000 : 40_000);
  expect([a.view(), b.view()]).toEqual([[], []]);
});
