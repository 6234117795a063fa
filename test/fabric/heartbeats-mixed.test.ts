/** More nodes than links, some of a version that passes no heartbeats on: nobody's age grows for that. */
import { expect, test } from "vitest";
import { some } from "../fakes/effort.ts";
import { FabricWorld, type WorldNode } from "../fakes/fabric-world.ts";
import { FABRIC_OPTIONS } from "../fakes/options.ts";

const COUNT = 12;
const OPTIONS = { links: { ...FABRIC_OPTIONS.links, maxLinks: 4 } };

/** Of `COUNT` nodes those below `oldCount` are of the first version. */
function started(oldCount: number): { readonly world: FabricWorld; readonly nodes: readonly WorldNode[] } {
  const world = new FabricWorld(`mixed ${oldCount}`);
  world.saying = ({ spec }, frame) => {
    if (Number(spec.nodeId.slice(1)) >= oldCount) return frame;
    if (frame.kind === "hello") {
      const capabilities = frame.hello.capabilities.filter((each) => each !== "heartbeats");
      return { ...frame, hello: { ...frame.hello, capabilities } };
    }
    return frame.kind === "vector" ? { ...frame, heartbeats: [] } : frame;
  };
  const seeds = ["n0:1"];
  const nodes = Array.from({ length: COUNT }, (_, i) => world.start({ nodeId: `n${i}`, seeds: i === 0 ? [] : seeds, options: OPTIONS }));
  world.run(15_000);
  for (const node of nodes) node.put(node.spec.nodeId);
  world.run(20_000);
  return { world, nodes };
}

function heardOf(node: WorldNode): number {
  let count = 0;
  node.fabric.replication.heartbeats.forEach(() => {
    count += 1;
  });
  return count;
}

test.each(some([6, 0, 1, COUNT]))("%i of twelve nodes are of the first version: all are in step, and say so", (oldCount) => {
  const { world, nodes } = started(oldCount);
  for (let second = 0; second < 40; second++) {
    world.run(1000);
    const ages = nodes.map(({ fabric }) => fabric.readiness(world.time()));
    expect(ages.filter(({ ageMs, isInStep }) => ageMs > 12_000 || !isInStep)).toEqual([]);
  }
  const isDistantHeard = nodes.map((node) => heardOf(node) > node.upLinks().length);
  expect(isDistantHeard.some(Boolean)).toBe(oldCount < COUNT);
});
