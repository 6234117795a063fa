/** What nobody took over of a node that leaves, when the only other node of its cluster that holds it crashes. */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import type { Step } from "./plan.ts";
import { Simulation } from "./simulation.ts";
import { planOf } from "./workload.ts";

/** Nodes 0, 2 and 4 are a cluster, 1, 3 and 5 another one. */
const PLACES = [0, 1, 2, 3, 4, 5].map((index) => ({ clusterId: index % 2 === 0 ? "c1" : "c2", region: "r1" }));

function stepsOf(downMs: number | undefined): readonly Step[] {
  return [
    { atMs: 6000, kind: "stop", node: 0, reason: "leave", downMs: 15_000 },
    { atMs: 8323, kind: "register", client: 1, node: 4, variant: 0, scope: SCOPE.REGION, ttlMs: 0 },
    { atMs: 12_389, kind: "diskFull", node: 2, forMs: 2560 },
    { atMs: 12_475, kind: "stop", node: 4, reason: "leave", downMs },
    { atMs: 16_565, kind: "crash", nodes: [2], isSilent: false, isBatchKept: false, isDiskLost: false, downMs: 600 },
  ];
}

const GONE = { snapshotMs: 0, downMs: undefined };

test.each([
  ["it is on the disk of its own node alone", GONE, [false, true, false, true, undefined, true]],
  ["a snapshot holds it as well", { ...GONE, snapshotMs: 1000 }, [true, true, true, true, undefined, true]],
  ["its own node brings it back", { ...GONE, downMs: 20_000 }, [true, true, true, true, true, true]],
])("all other nodes of its cluster are down at once: %s", (_what, { snapshotMs, downMs }, shown) => {
  const sim = new Simulation({ ...planOf(20_105), places: PLACES, steps: stepsOf(downMs), snapshotMs });
  const { violation } = sim.run();
  const key = sim.clients[1]?.key;
  expect(violation?.message).toBeUndefined();
  expect(sim.nodes.map(({ process }) => process && key && process.replica.view(key) !== undefined)).toEqual(shown);
});
