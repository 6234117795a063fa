/** What one node of a region took over a border is shown at all of them, proven by each, and becomes stale at all of them at one time. */
import { expect, test } from "vitest";
import { SummaryStamper } from "../../../src/summary/stamper.ts";
import { FabricWorld } from "../../fakes/fabric-world.ts";
import { HeldWorld, START_MS, TTL } from "../../fakes/held-world.ts";

/** A region in which nodes hold summaries as a node does, and a cluster of another one. */
function region() {
  const [world, keeping] = [new FabricWorld(), new HeldWorld()];
  const far = keeping.node({ nodeId: "far1", clusterId: "far" });
  const nodes = new Map<string, ReturnType<typeof keeping.node>>();
  const start = (nodeId: string, clusterId: string, generation = 1) => {
    const of = keeping.node({ nodeId, clusterId, region: "r1" });
    nodes.set(nodeId, of);
    const { held } = of;
    const stamper = new SummaryStamper((cluster) => keeping.keys.regionOf(cluster));
    const summaries = { replica: held.replica, stamper, receipts: held };
    const node = world.start({ nodeId, clusterId, generation, seeds: ["a:1"], summaries });
    node.aheadMs = START_MS + world.nowMs - world.time().wallMs;
    return { of, node };
  };
  const run = (forMs: number) => {
    for (const untilMs = world.nowMs + forMs; world.nowMs < untilMs; ) {
      world.run(50);
      keeping.nowMs = world.nowMs;
      for (const of of nodes.values()) of.settle();
    }
  };
  const shown = () => [...nodes.values()].map((of) => of.shown.join(" "));
  return { world, far, start, run, shown };
}

test("three nodes of two clusters, one that comes late, and one that starts again", () => {
  const { world, far, start, run, shown } = region();
  const a = start("a", "c1");
  const b = start("b", "c1");
  start("c", "c2");
  run(10_000);
  const version = far.say("cart");
  far.beacon();
  for (const name of ["cart", "beacon"]) expect(a.of.takeFrom(far, name)).toBe("taken");
  run(1000);
  const fresh = `far/cart@${version}`;
  expect(shown()).toEqual([fresh, fresh, fresh]);
  run(80_000);
  start("d", "c2");
  world.kill(b.node);
  start("b", "c1", 2);
  run(10_000);
  expect(shown()).toEqual([fresh, fresh, fresh, fresh]);
  // Nobody hears of the source again.
  run(TTL - 92_000);
  expect(shown()).toEqual([fresh, fresh, fresh, fresh]);
  run(2000);
  expect(shown()).toEqual([fresh, fresh, fresh, fresh].map((each) => `${each}*`));
  // And a node that starts now does not make it fresh.
  world.kill(a.node);
  start("a", "c1", 2);
  run(10_000);
  expect(shown().every((each) => each === `${fresh}*`)).toBe(true);
});
