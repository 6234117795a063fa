/**
 * Small worlds that each show one rule by which the parts of a node are joined: a stop, a start, or what is told of a commit. Chance would
 * hardly ever lay their steps so close to each other.
 */

import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { MAX_SEQ } from "../../src/catalog/record/codec.ts";
import { Rng } from "../../src/lib/rng.ts";
import { SIM_FABRIC } from "./fabric-of.ts";
import type { Place, Plan, Step } from "./plan.ts";
import { type Outcome, Simulation } from "./simulation.ts";

const HERE = { clusterId: "c1", region: "r1" };
const ELSEWHERE = { clusterId: "c2", region: "r1" };
const FABRIC = {
  ...SIM_FABRIC,
  lifecycle: { ...SIM_FABRIC.lifecycle, orphanGraceMs: 12_000 },
  // Two links gather news for as long as twenty-five do, so that a node that stops still has some to tell for a moment.
  replication: { ...SIM_FABRIC.replication, gatherMsALink: 25 },
};
const CRASH = { kind: "crash", isSilent: false, isBatchKept: true, isDiskLost: false } as const;

interface SmallWorld {
  readonly places: readonly Place[];
  readonly steps: readonly Step[];
  readonly activeMs: number;
  readonly delayMs?: number;
  /** When each node starts for the first time; one after the other at once where it is left out. */
  readonly startMs?: readonly number[];
  /** Looks at the world at these times; returns what is wrong. */
  readonly looks: readonly { readonly atMs: number; readonly wrong: (simulation: Simulation) => readonly string[] }[];
}

const WORLDS = [
  leavesAlone,
  stopsBesideALeaver,
  tellsOfCommits,
  restartsBesideAnOrphan,
  findsBrokenGeneration,
  startsAhead,
  startsUnheard,
] as const;

/** A static entry of a client at a node. */
function put(atMs: number, client: number, node: number, scope: 1 | 2 = SCOPE.ZONE): Step {
  return { atMs, kind: "register", client, node, variant: 0, scope, ttlMs: 0 };
}

function isShown({ nodes, clients }: Simulation, client: number, at: number): boolean {
  const node = nodes[at];
  const key = node === undefined ? undefined : clients[client]?.keyAt(node);
  return key !== undefined && node?.process?.replica.view(key) !== undefined;
}

/** The nodes of `nodes` that do not show one of the entries. */
function lacking(simulation: Simulation, clients: readonly number[], nodes: readonly number[]): readonly string[] {
  return nodes.flatMap((at) =>
    clients.filter((client) => !isShown(simulation, client, at)).map((client) => `n${at} lacks entry ${client}`),
  );
}

/** The only node of its cluster leaves and comes back. It keeps everything, because nobody of its cluster was there to take it. */
function leavesAlone(rng: Rng): SmallWorld {
  const stopMs = 8000 + rng.int(2000);
  const clients = [0, 1, 2];
  const steps: Step[] = clients.map((client) => put(4000 + client * 100, client, 0, client === 0 ? SCOPE.ZONE : SCOPE.LOCAL));
  steps.push({ atMs: stopMs, kind: "stop", node: 0, reason: "leave", downMs: 4000 });
  const looks = [{ atMs: stopMs + 12_000, wrong: (simulation: Simulation) => lacking(simulation, clients, [0]) }];
  return { places: [HERE, ELSEWHERE], steps, activeMs: stopMs + 13_000, looks };
}

/** A node stops to restart while another one leaves and offers its static entries. It has news of its own to tell first, so its links stay for a moment. */
function stopsBesideALeaver(rng: Rng): SmallWorld {
  const leaveMs = 10_000 + rng.int(2000);
  const clients = [0, 1, 2, 3, 4, 5];
  const steps: Step[] = clients.map((client) => put(4000 + client * 100, client, 0));
  steps.push({ atMs: leaveMs, kind: "stop", node: 0, reason: "leave", downMs: 9000 });
  const stopMs = leaveMs + rng.int(60);
  // The first is told at once, and the second is gathered.
  steps.push(put(stopMs - 30, 6, 1), put(stopMs - 10, 7, 1));
  steps.push({ atMs: stopMs, kind: "stop", node: 1, reason: "restart", downMs: 5000 });
  const looks = [{ atMs: leaveMs + 17_000, wrong: (simulation: Simulation) => lacking(simulation, clients, [0, 1, 2]) }];
  return { places: [HERE, HERE, HERE], steps, activeMs: leaveMs + 18_000, delayMs: 40, looks };
}

/** What a node commits is at its neighbours long before the next round of their talk. */
function tellsOfCommits(rng: Rng): SmallWorld {
  const clients = Array.from({ length: 12 }, (_, i) => i);
  const times = clients.map((client) => 6000 + client * 1000 + rng.int(900));
  const looks = clients.map((client) => ({
    atMs: (times[client] ?? 0) + 60,
    wrong: (simulation: Simulation) => lacking(simulation, [client], [0, 1, 2]),
  }));
  return { places: [HERE, HERE, HERE], steps: clients.map((client) => put(times[client] ?? 0, client, 0)), activeMs: 20_000, looks };
}

/** A node starts again and again while another one is away. The time of that absence goes on, so the entries are hidden when it is over. */
function restartsBesideAnOrphan(rng: Rng): SmallWorld {
  const crashMs = 9000 + rng.int(1000);
  const steps: Step[] = [put(4000, 0, 3), { atMs: crashMs, ...CRASH, nodes: [3], downMs: 50_000 }];
  for (const afterMs of [8000, 14_000, 20_000]) steps.push({ atMs: crashMs + afterMs, ...CRASH, nodes: [0], downMs: 300 });
  const hidden = (simulation: Simulation) =>
    [0, 1, 2].filter((at) => isShown(simulation, 0, at)).map((at) => `n${at} shows what a node left that is away for too long`);
  return { places: [HERE, HERE, HERE, HERE], steps, activeMs: crashMs + 60_000, looks: [{ atMs: crashMs + 25_000, wrong: hidden }] };
}

/** A disk has a generation that no node accepts. The node takes a new generation once, and keeps it over the next start. */
function findsBrokenGeneration(rng: Rng): SmallWorld {
  const breakMs = 9000 + rng.int(1000);
  let generation = 0;
  const found = ({ nodes }: Simulation) => nodes[0]?.process?.replica.self.generation ?? 0;
  const steps: Step[] = [put(4000, 0, 0), put(breakMs + 4000, 1, 0)];
  for (const afterMs of [0, 6000]) steps.push({ atMs: breakMs + afterMs, ...CRASH, nodes: [0], downMs: 1000 });
  const looks = [
    {
      atMs: breakMs + 500,
      wrong: ({ nodes }: Simulation) => {
        if (nodes[0] !== undefined) nodes[0].disk.generation = MAX_SEQ + 1;
        return [];
      },
    },
    {
      atMs: breakMs + 5000,
      wrong: (simulation: Simulation) => {
        generation = found(simulation);
        return [];
      },
    },
    {
      atMs: breakMs + 12_000,
      wrong: (simulation: Simulation) => {
        const now = found(simulation);
        const renewed = now === generation ? [] : [`n0 goes on under generation ${now} and had ${generation} before`];
        return [...renewed, ...lacking(simulation, [0, 1], [0, 1])];
      },
    },
  ];
  return { places: [HERE, HERE], steps, activeMs: breakMs + 13_000, looks };
}

/** A node starts with a clock that is ahead of the others'. It takes no writes and serves nobody before the clock is right. */
function startsAhead(rng: Rng): SmallWorld {
  const startMs = 9000 + rng.int(1000);
  const rightMs = startMs + 5000;
  const steps: Step[] = [
    { atMs: startMs - 1000, ...CRASH, nodes: [2], downMs: 1000 },
    { atMs: startMs - 500, kind: "skew", node: 2, byMs: 2 * 3_600_000, forMs: rightMs - startMs + 500 },
  ];
  const looks = [];
  for (let atMs = startMs + 1; atMs < rightMs; atMs += 20)
    looks.push({
      atMs,
      wrong: ({ nodes }: Simulation) => {
        const process = nodes[2]?.process;
        const takesWrites = process?.takesWrites() === true ? [`n2 takes writes ${atMs - startMs} ms after its start`] : [];
        return process?.machine.readiness.isServing === true
          ? [...takesWrites, `n2 serves ${atMs - startMs} ms after its start`]
          : takesWrites;
      },
    });
  const isRight = ({ nodes }: Simulation) => nodes[2]?.process?.takesWrites() === true && nodes[2].process.machine.readiness.isServing;
  looks.push({
    atMs: rightMs + 5000,
    wrong: (simulation: Simulation) => (isRight(simulation) ? [] : ["n2 does not serve with a right clock"]),
  });
  return { places: [HERE, HERE, HERE], steps, activeMs: rightMs + 6000, looks };
}

/** A new node catches up with one of two others and does not hear the clock of the second. Until its wait is over it tells that its data has no known age. */
function startsUnheard(rng: Rng): SmallWorld {
  const startMs = 8000 + rng.int(1000);
  const steps: Step[] = [put(4000, 0, 0), put(4100, 1, 1), { atMs: startMs - 500, kind: "oneWay", from: 1, to: 2, forMs: 6000 }];
  let waitCount = 0;
  const looks = [];
  for (let atMs = startMs + 1; atMs < startMs + 5000; atMs += 50) {
    steps.push({ atMs, kind: "read", node: 2 });
    looks.push({
      atMs,
      wrong: ({ nodes }: Simulation) => {
        const process = nodes[2]?.process;
        if (process?.fabric.readiness.isReady === true && !process.machine.readiness.isReady) waitCount += 1;
        return [];
      },
    });
  }
  const waited = (simulation: Simulation) => {
    const missing = waitCount > 10 ? [] : [`n2 had caught up and was not ready at ${waitCount} looks`];
    return [...missing, ...lacking(simulation, [0, 1], [0, 1, 2])];
  };
  looks.push({ atMs: startMs + 9000, wrong: waited });
  return { places: [HERE, HERE, HERE], steps, activeMs: startMs + 10_000, startMs: [0, 10, startMs], looks };
}

function planOf(seed: string | number, rng: Rng, { places, steps, activeMs, delayMs = 5, startMs }: SmallWorld): Plan {
  return {
    seed: `node/${seed}`,
    places,
    seeds: places.map((_, i) => (i === 0 ? [1] : [0])),
    startMs: startMs ?? places.map((_, i) => i * 10),
    clientCount: 12,
    watches: [],
    steps: steps.toSorted((a, b) => a.atMs - b.atMs),
    activeMs,
    settleMs: 60_000,
    isUnruly: false,
    isEncoded: rng.int(4) === 0,
    delayMs,
    commitMs: places.map(() => 3),
    snapshotMs: 2000,
    maxLinks: 20,
    frameBytes: 64 * 1024,
    tombstoneTtlMs: 30_000,
    minTombstones: 1000,
    hasLocal: true,
  };
}

/** The seed says which of the worlds it is, in turn, and draws its times. */
export function runSeed(seed: string | number): Outcome {
  const rng = new Rng(`node/${seed}`);
  const small = (WORLDS[(Number(seed) - 1) % WORLDS.length] ?? leavesAlone)(rng);
  const simulation = new Simulation(planOf(seed, rng, small), { fabric: FABRIC });
  const wrong: string[] = [];
  for (const look of small.looks) simulation.world.at(look.atMs, () => wrong.push(...look.wrong(simulation)));
  const outcome = simulation.run();
  const violation = outcome.violation ?? (wrong.length === 0 ? undefined : { invariant: "rest", message: wrong.join("; ") });
  return { ...outcome, violation: violation as Outcome["violation"] };
}
