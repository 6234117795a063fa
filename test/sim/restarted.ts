/**
 * Worlds in which a node of which no other holds a record is cut off, and mostly all others crash meanwhile. The node takes entries, and the others
 * take them out. What was taken out stays gone when the node is back (semantics.md, Tombstones).
 */
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { Rng } from "../../src/lib/rng.ts";
import type { Plan, Step } from "./plan.ts";
import { type Outcome, Simulation } from "./simulation.ts";

const PLACE = { clusterId: "c1", region: "r1" };
const OTHERS = [0, 1, 2] as const;
const AWAY = 3;
const CLIENTS = [0, 1, 2] as const;
const BACK_MS = 85_000;

function stepsOf(rng: Rng): readonly Step[] {
  const cutMs = 5000 + rng.int(2000);
  const crash = { kind: "crash", nodes: OTHERS, isSilent: rng.int(2) === 0, isBatchKept: true, isDiskLost: false } as const;
  const put = { kind: "register", scope: SCOPE.ZONE, ttlMs: 0 } as const;
  const steps: Step[] = [{ atMs: cutMs, kind: "partition", side: [AWAY], forMs: BACK_MS - cutMs }];
  // Before the others have found out that it is gone, or after.
  if (rng.int(4) > 0) steps.push({ atMs: cutMs + 500 + rng.int(10_000), ...crash, downMs: 500 + rng.int(2500) });
  if (rng.int(3) === 0) steps.push({ atMs: 32_000 + rng.int(5000), ...crash, downMs: 500 + rng.int(2500) });
  for (const client of CLIENTS) {
    const node = rng.int(OTHERS.length);
    steps.push({ atMs: 23_000 + client * 100, ...put, client, node: AWAY, variant: 0 });
    steps.push({ atMs: 25_000 + client * 100, ...put, client, node, variant: 1 });
    steps.push({ atMs: 27_000 + client * 100, kind: "unregister", client, node });
  }
  return steps.toSorted((a, b) => a.atMs - b.atMs);
}

function planOf(seed: string | number): Plan {
  const rng = new Rng(`restarted/${seed}`);
  return {
    seed: `restarted/${seed}`,
    places: [PLACE, PLACE, PLACE, PLACE],
    // Only the nodes that it joins by find a node that was cut off.
    seeds: [[1], [0], [0, 1], [0, 1]],
    startMs: [0, 10, 20, 30],
    clientCount: CLIENTS.length,
    watches: [],
    steps: stepsOf(rng),
    activeMs: BACK_MS + 1000,
    settleMs: 60_000,
    isUnruly: false,
    isEncoded: rng.int(4) === 0,
    delayMs: 5,
    commitMs: [3, 3, 3, 3],
    snapshotMs: rng.int(2) === 0 ? 0 : 3000,
    maxLinks: 20,
    frameBytes: 64 * 1024,
    tombstoneTtlMs: 2000,
    minTombstones: 1000,
    hasLocal: false,
  };
}

export function runSeed(seed: string | number): Outcome {
  return new Simulation(planOf(seed)).run();
}
