/**
 * Worlds in which a node is away for longer than `origin_forget`, while others take out some of its entries. What was taken out stays gone, and
 * all other entries come back (semantics.md, Orphans).
 */
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { Rng } from "../../src/lib/rng.ts";
import { SIM_FABRIC } from "./fabric-of.ts";
import type { Plan, Step } from "./plan.ts";
import { type Outcome, Simulation } from "./simulation.ts";

const FABRIC = { ...SIM_FABRIC, lifecycle: { ...SIM_FABRIC.lifecycle, orphanGraceMs: 10_000, originForgetMs: 40_000 } };
const AWAY = 2;
const NEWCOMER = 3;
const PLACE = { clusterId: "c1", region: "r1" };
const AWAY_MS = { from: 10_000, to: 125_000 } as const;
const ACTIVE_MS = 142_000;
/** Clients by what becomes of their entries. All are registered at the node that will be away. */
const UNREGISTERED = [0, 1, 2] as const;
const STATIC = [3, 4] as const;
const LEASED = [5, 6] as const;
const CHURNING = Array.from({ length: 16 }, (_, i) => 7 + i);

/** The variant that the seed draws. */
interface Kind {
  /** The node is cut off together with its clients. Else it crashes and keeps its disk. */
  readonly isCutOff: boolean;
  /** Other keys come and go meanwhile, so that tombstones have to be collected. */
  readonly isCrowded: boolean;
  /** There is not even room for the tombstones of the entries that were taken out. */
  readonly isOverfull: boolean;
  /** A new node comes, and the node that took out the entries is gone when their node is back. */
  readonly hasNewcomer: boolean;
  /** The others restart, all at once, after they have forgotten it. */
  readonly isRestarted: boolean;
  /** The node that took out the entries leaves, and is forgotten too, before or after the node that is away. */
  readonly leaves: "" | "early" | "late";
}

function kindOf(rng: Rng): Kind {
  const leaves = (["", "", "early", "late"] as const)[rng.int(4)] ?? "";
  const isCrowded = rng.int(2) === 0;
  const isOverfull = isCrowded && rng.int(2) === 0;
  return { isCutOff: rng.int(2) === 0, isCrowded, isOverfull, hasNewcomer: rng.int(2) === 0, isRestarted: rng.int(2) === 0, leaves };
}

/** Whether every tombstone that is needed is kept. Static entries then come back too. */
function isExact({ isOverfull, leaves }: Kind): boolean {
  return !isOverfull && leaves === "";
}

function stepsOf(kind: Kind, rng: Rng): readonly Step[] {
  const register = (client: number, node: number, atMs: number, ttlMs: number): Step => ({
    atMs,
    kind: "register",
    client,
    node,
    variant: 0,
    scope: SCOPE.ZONE,
    ttlMs,
  });
  const ender = kind.leaves === "" ? rng.int(2) : 1;
  const endMs = kind.leaves === "early" ? 11_500 : 25_000;
  const steps: Step[] = [...UNREGISTERED, ...STATIC].map((client) => register(client, AWAY, 4000 + client * 100, 0));
  if (kind.isCutOff) for (const client of LEASED) steps.push(register(client, AWAY, 5000 + client * 100, 8000));
  for (const client of UNREGISTERED) steps.push({ atMs: endMs + client * 50, kind: "unregister", client, node: ender });
  const forMs = AWAY_MS.to - AWAY_MS.from;
  if (kind.isCutOff) steps.push({ atMs: AWAY_MS.from, kind: "partition", side: [AWAY], forMs });
  else
    steps.push({ atMs: AWAY_MS.from, kind: "crash", nodes: [AWAY], isSilent: true, isBatchKept: true, isDiskLost: false, downMs: forMs });
  // The second time they are at nodes that were started since.
  const churns = [
    { node: 0, atMs: 68_000 },
    { node: rng.int(2) === 0 ? 0 : NEWCOMER, atMs: 95_000 },
  ];
  for (const { node, atMs } of kind.isCrowded ? churns : [])
    for (const client of CHURNING) {
      steps.push(register(client, node, atMs + client * 40, 0), { atMs: atMs + 4000 + client * 40, kind: "unregister", client, node });
    }
  if (kind.leaves !== "") steps.push({ atMs: endMs + 2000, kind: "stop", node: 1, reason: "leave", downMs: undefined });
  const crash = { kind: "crash", isSilent: false, isBatchKept: true, isDiskLost: false } as const;
  if (kind.isRestarted) steps.push({ atMs: 80_000, ...crash, nodes: kind.leaves === "" ? [0, 1, NEWCOMER] : [0, NEWCOMER], downMs: 800 });
  if (kind.hasNewcomer && kind.leaves === "") steps.push({ atMs: AWAY_MS.to - 3000, ...crash, nodes: [ender], downMs: 16_000 });
  return steps.toSorted((a, b) => a.atMs - b.atMs);
}

function planOf(seed: string | number, kind: Kind, rng: Rng): Plan {
  return {
    seed: `lost/${seed}`,
    places: [PLACE, PLACE, PLACE, PLACE],
    seeds: [
      [1, NEWCOMER],
      [0, NEWCOMER],
      [0, 1, NEWCOMER],
      [0, 1],
    ],
    startMs: [0, 10, 20, kind.hasNewcomer ? 75_000 : 30],
    clientCount: 7 + CHURNING.length,
    watches: [],
    steps: stepsOf(kind, rng),
    activeMs: ACTIVE_MS,
    settleMs: 120_000,
    isUnruly: false,
    isEncoded: rng.int(4) === 0,
    delayMs: 5,
    commitMs: [3, 3, 3, 3],
    snapshotMs: 3000,
    maxLinks: 20,
    frameBytes: 64 * 1024,
    tombstoneTtlMs: 2000,
    minTombstones: kind.isOverfull ? 2 : kind.isCrowded ? 4 : 1000,
    hasLocal: false,
  };
}

export function runSeed(seed: string | number): Outcome & { readonly kind: string } {
  const rng = new Rng(`lost/${seed}`);
  const kind = kindOf(rng);
  const simulation = new Simulation(planOf(seed, kind, rng), { fabric: FABRIC });
  // Nothing is promised about entries that no node is told of again.
  if (!isExact(kind)) simulation.world.at(AWAY_MS.from, () => STATIC.forEach((client) => simulation.clients[client]?.abandon()));
  const outcome = simulation.run();
  const wrong = outcome.violation === undefined ? wrongEntries(simulation, kind) : [];
  const violation = wrong.length === 0 ? outcome.violation : { invariant: "P6", message: wrong.join("; ") };
  return { ...outcome, violation: violation as Outcome["violation"], kind: JSON.stringify(kind) };
}

function wrongEntries({ nodes, clients }: Simulation, kind: Kind): readonly string[] {
  const wrong: string[] = [];
  const there = [...(isExact(kind) ? STATIC : []), ...(kind.isCutOff ? LEASED : [])];
  for (const node of nodes) {
    const { process } = node;
    if (process === undefined) continue;
    const isShown = (client: number) => process.replica.view(clients[client]?.keyAt(node) ?? ("" as never)) !== undefined;
    for (const client of UNREGISTERED)
      if (isShown(client)) wrong.push(`${node.name} shows the entry of client ${client}, which was taken out`);
    for (const client of there) if (!isShown(client)) wrong.push(`${node.name} lacks the entry of client ${client}, which nobody took out`);
  }
  return wrong;
}
