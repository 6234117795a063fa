/**
 * Worlds in which a node stops while half of its cluster is cut off, and no node takes its static entries. That half takes it for dead and
 * forgets it, and hears how it stopped only when the cut is healed. Then all nodes show what it left behind (semantics.md, Stop).
 */
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { Rng } from "../../src/lib/rng.ts";
import { SIM_FABRIC } from "./fabric-of.ts";
import type { Plan, Step } from "./plan.ts";
import { type Outcome, Simulation } from "./simulation.ts";

const FABRIC = { ...SIM_FABRIC, lifecycle: { ...SIM_FABRIC.lifecycle, orphanGraceMs: 5000, originForgetMs: 20_000 } };
const PLACE = { clusterId: "c1", region: "r1" };
const STAYERS = [0, 1] as const;
const LEAVER = 2;
/** As many as stay on the other side. If more were gone, nothing would be hidden. */
const CUT_OFF = [3, 4, 5] as const;
const TAKEN_OUT = 0;
const LEFT = [1, 2] as const;
const CUT_MS = { from: 7000, to: 50_000 } as const;
const ACTIVE_MS = 62_000;

function stepsOf(rng: Rng): readonly Step[] {
  const stopMs = CUT_MS.from + 1000 + rng.int(3000);
  const clients = [TAKEN_OUT, ...LEFT];
  const put = { kind: "register", node: LEAVER, variant: 0, scope: SCOPE.ZONE, ttlMs: 0 } as const;
  const crash = { kind: "crash", isSilent: false, isBatchKept: true, isDiskLost: false } as const;
  const steps: Step[] = clients.map((client) => ({ atMs: 4000 + client * 100, ...put, client }));
  steps.push({ atMs: CUT_MS.from, kind: "partition", side: CUT_OFF, forMs: CUT_MS.to - CUT_MS.from });
  for (const node of STAYERS) steps.push({ atMs: stopMs - 50, kind: "diskFull", node, forMs: 2500 });
  // It is back when the others have taken again what they had forgotten, or never.
  const downMs = rng.int(3) === 0 ? CUT_MS.to + 8000 - stopMs : undefined;
  steps.push({ atMs: stopMs, kind: "stop", node: LEAVER, reason: "leave", downMs });
  steps.push({ atMs: 15_000 + rng.int(30_000), kind: "unregister", client: TAKEN_OUT, node: rng.int(STAYERS.length) });
  // One node that knows how it stopped is always there.
  if (rng.int(2) === 0) steps.push({ atMs: 20_000 + rng.int(15_000), ...crash, nodes: [1], downMs: 500 + rng.int(5000) });
  if (rng.int(2) === 0) steps.push({ atMs: CUT_MS.to + rng.int(8000), ...crash, nodes: [3, 4], downMs: 500 + rng.int(2000) });
  return steps.toSorted((a, b) => a.atMs - b.atMs);
}

function planOf(seed: string | number): Plan {
  const rng = new Rng(`left/${seed}`);
  return {
    seed: `left/${seed}`,
    places: Array.from({ length: 6 }, () => PLACE),
    seeds: [[1], [0], [0, 1], [0, 1], [0, 1], [0, 1]],
    startMs: [0, 10, 20, 30, 40, 50],
    clientCount: 1 + LEFT.length,
    watches: [],
    steps: stepsOf(rng),
    activeMs: ACTIVE_MS,
    settleMs: 60_000,
    isUnruly: false,
    isEncoded: rng.int(4) === 0,
    delayMs: 5,
    commitMs: [3, 3, 3, 3, 3, 3],
    snapshotMs: rng.int(2) === 0 ? 0 : 3000,
    maxLinks: 20,
    frameBytes: 64 * 1024,
    tombstoneTtlMs: 2000,
    minTombstones: 1000,
    hasLocal: false,
  };
}

export function runSeed(seed: string | number): Outcome {
  const simulation = new Simulation(planOf(seed), { fabric: FABRIC });
  const outcome = simulation.run();
  const wrong = outcome.violation === undefined ? wrongEntries(simulation) : [];
  if (outcome.events.get("origin_forgotten") === undefined) wrong.push("nobody forgot anything");
  const violation = wrong.length === 0 ? outcome.violation : { invariant: "rest", message: wrong.join("; ") };
  return { ...outcome, violation: violation as Outcome["violation"] };
}

function wrongEntries({ nodes, clients }: Simulation): string[] {
  const wrong: string[] = [];
  for (const node of nodes) {
    const { process } = node;
    if (process === undefined) continue;
    const isShown = (client: number) => process.replica.view(clients[client]?.keyAt(node) ?? ("" as never)) !== undefined;
    if (isShown(TAKEN_OUT)) wrong.push(`${node.name} shows what was taken out`);
    for (const client of LEFT) if (!isShown(client)) wrong.push(`${node.name} lacks the entry of client ${client}, which nobody took out`);
  }
  return wrong;
}
