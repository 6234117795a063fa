/**
 * Worlds in which operators take nodes out and back, several at once and by several nodes, and let nodes be forgotten. In some worlds nothing fails:
 * then nothing that clients keep registered is ever absent (semantics.md, Operators and nodes).
 */
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { BODY } from "../../src/catalog/record/record.ts";
import { Rng } from "../../src/lib/rng.ts";
import { Violation } from "./checks.ts";
import { SIM_FABRIC } from "./fabric-of.ts";
import type { FaultStep, OperatorStep, Plan, Step } from "./plan.ts";
import type { SimNode } from "./sim-node.ts";
import { type Outcome, Simulation } from "./simulation.ts";

const PLACE = { clusterId: "c1", region: "r1" };
const CLIENTS = 9;
/** Stays on its node for ever in some worlds, whatever the node says. */
const STUBBORN = 0;
const REGISTERED_MS = 3000;
/** From now on, all nodes show all entries. */
const SHOWN_MS = 7000;
const WORK_MS = { from: 8000, to: 40_000 } as const;
const ACTIVE_MS = 55_000;
/** Longer than the time between two comparisons of the tables of members. */
const TABLES_MS = 60_000;
const TTLS_MS = [0, 3000, 5000, 8000, 0, 3000, 5000, 8000, 0] as const;

const KINDS = ["calm", "calm", "rush", "stubborn", "faults", "forget", "forget"] as const;
type Kind = (typeof KINDS)[number];

const CRASH = { kind: "crash", isSilent: true, isBatchKept: true, isDiskLost: false } as const;

function pick<T>(rng: Rng, from: readonly T[]): T {
  return from[rng.int(from.length)] as T;
}

function operate(atMs: number, node: number, by: number, more: Pick<OperatorStep, "operation"> & Partial<OperatorStep>): Step {
  return { atMs, kind: "operate", node, by, ...more };
}

/** Random operations, of which some happen at the same time. */
function operations(rng: Rng, count: number): readonly Step[] {
  const steps: Step[] = [];
  for (let atMs: number = WORK_MS.from; atMs < WORK_MS.to; atMs += 500 + rng.int(9000)) {
    for (let n = rng.int(3); n >= 0; n--) {
      const operation = pick(rng, ["cordon", "drain", "drain", "uncordon", "uncordon"] as const);
      steps.push(operate(atMs + rng.int(100), rng.int(count), rng.int(count), { operation, deadlineMs: pick(rng, [2000, 600_000]) }));
    }
  }
  return steps;
}

/** All nodes are taken out at the same time, each by another one. */
function rush(rng: Rng, count: number): readonly Step[] {
  const atMs = WORK_MS.from + rng.int(8000);
  return Array.from({ length: count }, (_, i) =>
    operate(atMs + rng.int(60), i, (i + 1) % count, { operation: pick(rng, ["cordon", "drain"] as const) }),
  );
}

function faults(rng: Rng, count: number): readonly Step[] {
  const steps: Step[] = [];
  for (let atMs = WORK_MS.from + rng.int(4000); atMs < WORK_MS.to; atMs += 3000 + rng.int(8000)) {
    const node = rng.int(count);
    const kinds: readonly FaultStep[] = [
      { ...CRASH, nodes: [node], isSilent: rng.int(2) === 0, downMs: 300 + rng.int(4000) },
      { kind: "partition", side: [node], forMs: 500 + rng.int(6000) },
      { kind: "freeze", node, forMs: 500 + rng.int(6000) },
      { kind: "diskFull", node, forMs: 500 + rng.int(3000) },
    ];
    steps.push({ atMs, ...pick(rng, kinds) });
  }
  return steps;
}

/** Some links are slow, so that what two nodes write reaches a third one in any order. */
function slowLinks(rng: Rng, count: number): readonly Step[] {
  const pairs = Array.from({ length: rng.int(4) }, () => ({
    from: rng.int(count),
    to: rng.int(count),
    bytesPerSecond: 2000 + rng.int(8000),
  }));
  return pairs
    .filter(({ from, to }) => from !== to)
    .map((pair) => ({ atMs: WORK_MS.from, kind: "slow", ...pair, forMs: ACTIVE_MS - WORK_MS.from }) as const);
}

/** The node that dies and is forgotten. */
const GONE = 3;
const NEWCOMER = 4;

/** A node dies, and is forgotten while another one is cut off or starts again. */
function forgetting(rng: Rng): readonly Step[] {
  const downMs = rng.int(2) === 0 ? undefined : 38_000;
  const forgetMs = 22_000 + rng.int(3000);
  const steps: Step[] = [{ atMs: 9000, ...CRASH, nodes: [GONE], downMs }, operate(forgetMs, GONE, rng.int(3), { operation: "forget" })];
  if (rng.int(2) === 0) steps.push({ atMs: forgetMs - 3000, kind: "partition", side: [2], forMs: 6000 + rng.int(6000) });
  if (rng.int(2) === 0) steps.push({ atMs: forgetMs - 1000 + rng.int(6000), ...CRASH, nodes: [1], downMs: 300 + rng.int(3000) });
  return steps;
}

function stepsOf(kind: Kind, rng: Rng, count: number): readonly Step[] {
  const steps: Step[] = TTLS_MS.map((ttlMs, client) => {
    const scope = pick(rng, [SCOPE.ZONE, SCOPE.REGION]);
    // The stubborn client has a lease, and the node that will be gone has static entries.
    const node = kind === "forget" ? pick(rng, [0, GONE, GONE]) : rng.int(count);
    return {
      atMs: REGISTERED_MS + client * 50,
      kind: "register",
      client,
      node,
      variant: 0,
      scope,
      ttlMs: client === STUBBORN ? 4000 : ttlMs,
    };
  });
  if (kind === "forget") steps.push(...forgetting(rng));
  else steps.push(...operations(rng, count));
  if (kind === "rush") steps.push(...rush(rng, count));
  if (kind === "faults") steps.push(...faults(rng, count));
  if (kind === "calm" || kind === "rush") steps.push(...slowLinks(rng, count));
  return steps.toSorted((a, b) => a.atMs - b.atMs);
}

function planOf(seed: string | number, kind: Kind, rng: Rng): Plan {
  const count = kind === "forget" ? NEWCOMER + 1 : 3 + rng.int(3);
  const all = Array.from({ length: count }, (_, i) => i);
  return {
    seed: `drains/${seed}`,
    places: all.map(() => PLACE),
    seeds: all.map((i) => (i === 0 ? [1] : [0, 1].filter((other) => other !== i))),
    startMs: all.map((i) => (kind === "forget" && i === NEWCOMER ? 38_000 + rng.int(8000) : 10 * i)),
    clientCount: CLIENTS,
    watches: all.slice(0, 3).map((node) => ({ node, filter: rng.int(3), everyMs: 50 + rng.int(400), budgetBytes: 4000 })),
    steps: stepsOf(kind, rng, count),
    activeMs: ACTIVE_MS,
    settleMs: 120_000,
    isUnruly: false,
    isEncoded: rng.int(4) === 0,
    delayMs: 1 + rng.int(20),
    commitMs: all.map(() => 3),
    snapshotMs: rng.int(2) === 0 ? 0 : 3000,
    maxLinks: 20,
    frameBytes: 64 * 1024,
    tombstoneTtlMs: 300_000,
    minTombstones: 1000,
    hasLocal: false,
  };
}

export interface DrainOutcome extends Outcome {
  readonly kind: Kind;
  /** How often operations ended in each way. */
  readonly ends: ReadonlyMap<string, number>;
  /** Number of updates that watches saw of kept entries. */
  readonly updateCount: number;
}

export function runSeed(seed: string | number): DrainOutcome {
  const rng = new Rng(`drains/${seed}`);
  const kind = typeof seed === "number" ? (KINDS[seed % KINDS.length] ?? "calm") : pick(rng, KINDS);
  const simulation = new Simulation(planOf(seed, kind, rng), { fabric: SIM_FABRIC });
  const { world, clients, nodes, kept, operators } = simulation;
  if (kind === "stubborn" && clients[STUBBORN] !== undefined) clients[STUBBORN].stubbornness = pick(rng, ["registers", "renews"]);
  if (kind !== "faults" && kind !== "forget")
    world.at(SHOWN_MS, () => {
      for (const client of clients) if (client.key !== undefined) kept.keys.add(client.key);
      for (const { process } of nodes) for (const key of kept.keys) if (process !== undefined) kept.look(process, key);
    });
  const outcome = simulation.run();
  // Gossip can miss a node, which later compares its table of members with the tables of others.
  if (outcome.violation === undefined && wrongAtRest(simulation, kind) !== undefined) world.runUntil(world.nowMs + TABLES_MS);
  const violation = outcome.violation ?? wrongAtRest(simulation, kind);
  return { ...outcome, violation, kind, ends: operators.ends, updateCount: kept.updateCount };
}

function wrongAtRest(simulation: Simulation, kind: Kind): Violation | undefined {
  const { nodes } = simulation;
  const remembered = nodes.flatMap((node) => rememberedAt(node, simulation));
  if (remembered.length > 0) return new Violation("forgotten", remembered.join("; "));
  const wrong = nodes.flatMap((node) => wrongAt(node, simulation, kind));
  return wrong.length > 0 ? new Violation("rest", wrong.join("; ")) : undefined;
}

/** What a node still has of nodes that are forgotten. A node that is alive is no longer forgotten. */
function rememberedAt({ name, process }: SimNode, { nodes, operators }: Simulation): readonly string[] {
  const forgotten = nodes.filter((node) => operators.wanted(node.name)?.isForgotten === true);
  const nodeIds = new Set([...(process?.replica.origins.values() ?? [])].map(({ nodeId }) => nodeId));
  return forgotten.flatMap((node) => {
    if (node.isUp) return [`${node.name} is alive and forgotten`];
    return nodeIds.has(node.name) ? [`${name} still has records of ${node.name}`] : [];
  });
}

/** Each node is what operators want it to be, and all others know it. */
function wrongAt({ name, process }: SimNode, { nodes, operators, clients, watches }: Simulation, kind: Kind): readonly string[] {
  if (process === undefined) return [];
  const { drain } = process.machine;
  const desired = operators.wanted(name)?.desired ?? "active";
  const isStubborn = kind === "stubborn" && clients[STUBBORN]?.wish?.node === process.node.index;
  const want = {
    isCordoned: desired !== "active",
    step: desired !== "drained" ? undefined : isStubborn ? "leases" : "drained",
    isDraining: desired === "drained",
    endsWatches: desired === "drained" && !isStubborn,
  };
  const have = {
    isCordoned: drain.isCordoned,
    step: drain.progress?.step,
    isDraining: process.registrar.isDraining,
    endsWatches: process.fanout.drainShare > 0,
  };
  const wrong: string[] = [];
  if (JSON.stringify(have) !== JSON.stringify(want)) wrong.push(`${name} is ${JSON.stringify(have)}, not ${JSON.stringify(want)}`);
  const left = process.replica.self.log
    .list()
    .filter(({ body, key }) => body === BODY.ENTRY && process.replica.own(key)?.body === BODY.ENTRY);
  if (want.step === "drained" && left.length > 0) wrong.push(`${name} is drained and has ${left.map(({ key }) => key).join(" ")}`);
  for (const { index, place } of watches)
    if (want.step === "drained" && place?.process === process) wrong.push(`${name} is drained and has watch ${index} at ${place.name}`);
  for (const other of nodes) {
    const told = other.process?.fabric.membership.find(name)?.desired ?? "active";
    if (other.process !== undefined && told !== desired) wrong.push(`${other.name} takes ${name} for ${told}, not ${desired}`);
  }
  return wrong;
}
