/**
 * Worlds in which a node goes on in a new generation, and the others hide and forget what it was before, while tombstones are collected and
 * somebody is away: what ended stays gone, and what did not is shown for as long as was promised (semantics.md, Several origins for one key, Orphans).
 */
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { Rng } from "../../src/lib/rng.ts";
import { Violation } from "./checks.ts";
import { SIM_FABRIC } from "./fabric-of.ts";
import type { Plan, Step } from "./plan.ts";
import type { SimNode } from "./sim-node.ts";
import { type Outcome, Simulation } from "./simulation.ts";

const PLACE = { clusterId: "c1", region: "r1" };
/** Who goes on in a new generation; who is away meanwhile, or dies too; and who comes late, or dies too. */
const CHANGER = 2;
const AWAY = 3;
const FIFTH = 4;

/** Clients, at the changer. Static ones, one whose lease is renewed, leases that end, one taken out, one that moves, and one that is put after the change. */
const STATIC = [0, 1] as const;
const RENEWED = 2;
const ENDED = [3, 4, 5] as const;
const TAKEN_OUT = 6;
const MOVED = 7;
const LATER = 8;
/** A static one at each other node. */
const OF_OTHERS = [0, 1, AWAY, FIFTH].map((node, i) => ({ client: 9 + i, node }));
/** Static ones of who is away, taken out meanwhile. */
const MISSED = [13, 14, 15, 16] as const;
const CHURNING = Array.from({ length: 16 }, (_, i) => 17 + i);

const TTL_MS = 4000;
/** After the change: of those that end the last one does at about that moment. */
const ABANDONED_MS = [3500, 5000, -TTL_MS] as const;
/** Everybody has been registered for long. */
const SETTLED_MS = 12_000;
/** News is everywhere by then; and who was cut off is found again. */
const NEWS_MS = 4000;
const FOUND_MS = 16_000;
const LOOK_MS = 250;
const GRACE_MS = 40_000;

/**
 * What happens beside the change. A node comes, and one starts again, when tombstones have been collected, by age or by number, and what the
 * changer was is still shown; a node is back when the others have forgotten that; it is back when they have forgotten itself, as it was or in
 * a new generation; or the changer and two more die, one before and two after what it was is forgotten.
 */
const STORIES = ["comes", "crowded", "away", "lost", "lostAndChanged", "dying"] as const;

interface Kind {
  readonly story: (typeof STORIES)[number];
  /** In the middle of its life; from its disk, as with `--new-generation`; or without the disk. */
  readonly change: "renewed" | "restarted" | "diskLost";
  /** A second change follows. */
  readonly isTwice: boolean;
  /** Who is away is cut off; else it crashes, and has its snapshot. */
  readonly isCutOff: boolean;
}

function kindOf(seed: number, rng: Rng): Kind {
  const change = (["renewed", "restarted", "diskLost"] as const)[rng.int(3)] ?? "renewed";
  const isTwice = change !== "diskLost" && rng.int(3) === 0;
  return { story: STORIES[seed % STORIES.length] ?? "comes", change, isTwice, isCutOff: rng.int(2) === 0 };
}

/** Whether somebody is away; and for so long that it is forgotten. */
const hasAway = ({ story }: Kind) => story === "away" || isLong({ story });
const isLong = ({ story }: Pick<Kind, "story">) => story === "lost" || story === "lostAndChanged";

/** When what happens, in ms. */
interface Times {
  readonly forgetMs: number;
  readonly change: number;
  readonly again: number;
  /** Of who is away, or dies first. */
  readonly gone: { readonly from: number; readonly to: number };
  readonly end: number;
}

function timesOf(kind: Kind, rng: Rng): Times {
  const isDying = kind.story === "dying";
  const change = (isDying ? 20_000 : 37_000) + rng.int(3000);
  const again = change + 3000;
  const forgetMs = GRACE_MS + (isDying ? 5000 : 10_000);
  const hasForgotten = (isDying ? again : change) + forgetMs;
  // Taken for dead before what it was is forgotten, and two more afterwards. They would be hidden before they are back, if they were not so many.
  if (isDying) return { forgetMs, change, again, gone: { from: hasForgotten - 14_000, to: hasForgotten + 40_000 }, end: 130_000 };
  // A snapshot is made at 36 s: it has the old generation, and nothing of the new one. The others forget later who is away than what the changer was.
  const from = kind.isCutOff ? change - 500 : 46_000;
  const to = hasForgotten + 4500 + rng.int(2500) + (isLong(kind) ? 50_000 : 0);
  return { forgetMs, change, again, gone: { from, to }, end: to + 20_000 };
}

function stepsOf(kind: Kind, times: Times, rng: Rng): readonly Step[] {
  const { story, change: how } = kind;
  const { change, gone } = times;
  const put = (client: number, node: number, atMs: number, ttlMs: number): Step => ({
    atMs,
    kind: "register",
    client,
    node,
    variant: 0,
    scope: SCOPE.ZONE,
    ttlMs,
  });
  const takeOut = (client: number, node: number, atMs: number): Step => ({ atMs, kind: "unregister", client, node });
  const first = (client: number, node: number, ttlMs: number) => put(client, node, 4000 + client * 100, ttlMs);
  const steps: Step[] = [...STATIC, TAKEN_OUT].map((client) => first(client, CHANGER, 0));
  for (const client of [RENEWED, ...ENDED, MOVED]) steps.push(first(client, CHANGER, TTL_MS));
  for (const { client, node } of OF_OTHERS) if (node !== FIFTH || story === "dying") steps.push(first(client, node, 0));
  for (const [i, client] of ENDED.entries()) steps.push({ atMs: change + (ABANDONED_MS[i] ?? 0), kind: "abandon", client });
  steps.push(put(LATER, CHANGER, change + 3000, 0), put(MOVED, rng.int(2), change + 5500, TTL_MS));
  steps.push(takeOut(TAKEN_OUT, rng.int(2) === 0 ? CHANGER : 0, change + 4500));
  for (const client of story === "crowded" ? CHURNING : [])
    for (const atMs of [change + 12_000, change + 26_000]) {
      const node = rng.int(2) === 0 ? CHANGER : 1;
      steps.push(put(client, node, atMs + client * 40, 0), takeOut(client, node, atMs + 2000 + client * 40));
    }
  const crash = { kind: "crash", isSilent: false, isBatchKept: true, isDiskLost: false } as const;
  if (how === "restarted") steps.push({ atMs: change - 300, ...crash, nodes: [CHANGER], downMs: 600 });
  if (how === "diskLost") steps.push({ atMs: change, ...crash, nodes: [CHANGER], isDiskLost: true, downMs: 300 });
  const forMs = gone.to - gone.from;
  const isSilent = rng.int(2) === 0;
  if (story === "comes" || story === "crowded") steps.push({ atMs: change + 24_000, ...crash, nodes: [1], downMs: 500 });
  if (story === "dying") {
    steps.push({ atMs: gone.from, ...crash, isSilent, nodes: [CHANGER], downMs: forMs });
    steps.push({ atMs: gone.from + 9000, ...crash, isSilent, nodes: [AWAY, FIFTH], downMs: forMs - 9000 });
  }
  if (!hasAway(kind)) return steps.toSorted((a, b) => a.atMs - b.atMs);
  if (kind.isCutOff) steps.push({ atMs: gone.from, kind: "partition", side: [AWAY], forMs });
  else steps.push({ atMs: gone.from, ...crash, isSilent, nodes: [AWAY], downMs: forMs });
  for (const [i, client] of MISSED.entries()) steps.push(first(client, AWAY, 0), takeOut(client, rng.int(2), missedMs(times, i)));
  if (isLong(kind)) {
    // Who was started since knows nobody who is not there; and what the other one says when it is back takes its time.
    steps.push({ atMs: gone.to - 36_000, ...crash, nodes: [0, 1, CHANGER], downMs: 500 });
    for (const to of [0, 1, CHANGER]) steps.push({ atMs: gone.to - 50, kind: "slow", from: AWAY, to, bytesPerSecond: 120, forMs: 8000 });
  }
  return steps.toSorted((a, b) => a.atMs - b.atMs);
}

/** Each tombstone is looked at after another part of the time that tombstones are kept. */
function missedMs({ gone }: Times, i: number): number {
  return gone.from + 7000 + i * 450;
}

function planOf(seed: number, kind: Kind, times: Times, rng: Rng): Plan {
  const fifthMs = kind.story === "dying" ? 40 : times.change + 29_000 + rng.int(3000);
  return {
    seed: `generations/${seed}`,
    places: Array.from({ length: hasAway(kind) ? 4 : 5 }, () => PLACE),
    seeds: [[1], [0], [0, 1], [0, 1], [0, 1]],
    startMs: hasAway(kind) ? [0, 10, 20, 30] : [0, 10, 20, 30, fifthMs],
    clientCount: 17 + CHURNING.length,
    watches: [],
    steps: stepsOf(kind, times, rng),
    activeMs: times.end,
    settleMs: 120_000,
    isUnruly: false,
    isEncoded: rng.int(4) === 0,
    delayMs: 5,
    commitMs: [3, 3, 3, 3, 3],
    snapshotMs: 12_000,
    maxLinks: 20,
    frameBytes: 64 * 1024,
    tombstoneTtlMs: 2000,
    minTombstones: kind.story === "crowded" ? 4 : 1000,
    hasLocal: false,
  };
}

export function runSeed(seed: string | number): Outcome & { readonly kind: string } {
  const rng = new Rng(`generations/${seed}`);
  const kind = kindOf(Number(seed), rng);
  const times = timesOf(kind, rng);
  const lifecycle = { ...SIM_FABRIC.lifecycle, orphanGraceMs: GRACE_MS, originForgetMs: times.forgetMs };
  const simulation = new Simulation(planOf(Number(seed), kind, times, rng), { fabric: { ...SIM_FABRIC, lifecycle } });
  const { world, nodes } = simulation;
  if (kind.change !== "diskLost") world.at(times.change, () => goOn(nodes[CHANGER]));
  if (kind.isTwice) world.at(times.again, () => goOn(nodes[CHANGER]));
  if (kind.story === "lostAndChanged") world.at(times.gone.to - 100, () => goOn(nodes[AWAY]));
  const expected = expectedOf(kind, times);
  for (let atMs = SETTLED_MS; atMs < times.end; atMs += LOOK_MS) world.at(atMs, () => look(simulation, expected));
  return { ...simulation.run(), kind: JSON.stringify(kind) };
}

/** All that it has goes on in a new generation: at once, or when it starts. */
function goOn(node: SimNode | undefined): void {
  if (node?.process !== undefined) node.enqueue(() => node.process?.loseGeneration());
  else if (node !== undefined) node.disk.generation = node.newGeneration();
}

/** What every node must show, or must not, and when. */
interface Expected {
  readonly client: number;
  readonly isShown: boolean;
  readonly from: number;
  readonly to: number;
  /** Not of nodes that come, or are back: with everybody else it is forgotten, or its end is, and nobody tells them. */
  readonly isOfOld?: boolean;
  /** Not of who is cut off until then. */
  readonly cutUntil: number;
}

function expectedOf(kind: Kind, times: Times): readonly Expected[] {
  const { change, gone, end } = times;
  const cutUntil = hasAway(kind) && kind.isCutOff ? gone.to + FOUND_MS : 0;
  const shown = (client: number, from = SETTLED_MS, to = end): Expected => ({ client, isShown: true, from, to, cutUntil });
  const ended = (client: number, atMs: number, isOfOld = false): Expected => ({
    client,
    isShown: false,
    from: atMs + NEWS_MS,
    to: end,
    isOfOld,
    cutUntil,
  });
  const hideMs = change + GRACE_MS;
  // Back with a snapshot in which all is as before the change, when nobody remembers that.
  const isStale = isLong(kind) && !kind.isCutOff;
  const isLost = kind.change === "diskLost";
  const expected = [shown(RENEWED), shown(MOVED), shown(LATER, change + 3000 + NEWS_MS), ended(TAKEN_OUT, change + 4500, isStale)];
  // What only the old generation had is shown for as long as orphans are.
  for (const client of STATIC)
    expected.push(...(isLost ? [shown(client, SETTLED_MS, hideMs), ended(client, hideMs, true)] : [shown(client)]));
  for (const [i, client] of ENDED.entries()) {
    const isLast = i === ENDED.length - 1;
    // After a restart a lease has its ttl once more.
    const endMs = change + Math.max(300, ABANDONED_MS[i] ?? 0) + TTL_MS + 1000;
    expected.push(ended(client, isLast && isLost ? hideMs : endMs, isLast || isStale));
  }
  if (hasAway(kind)) expected.push(...MISSED.map((client, i) => ended(client, missedMs(times, i))));
  for (const { client, node } of OF_OTHERS) {
    if (node === FIFTH && kind.story !== "dying") continue;
    const isAway = node === AWAY && hasAway(kind);
    expected.push(...(isAway ? [shown(client, SETTLED_MS, gone.from + GRACE_MS), shown(client, gone.to + FOUND_MS)] : [shown(client)]));
  }
  return expected;
}

function look({ nodes, clients, world }: Simulation, expected: readonly Expected[]): void {
  const { nowMs } = world;
  for (const { process, index, name } of nodes) {
    if (process?.isReady !== true || nowMs - process.bootMs < NEWS_MS) continue;
    for (const { client, isShown, from, to, isOfOld, cutUntil } of expected) {
      const key = clients[client]?.keyAt(process.node);
      if (nowMs < from || nowMs > to || key === undefined || (index === AWAY && nowMs < cutUntil)) continue;
      if (isOfOld === true && (index === AWAY || index === FIFTH)) continue;
      const seen = process.replica.view(key);
      if ((seen !== undefined) === isShown) continue;
      const what = seen === undefined ? "lacks" : `shows (${seen.origin.id}:${seen.seq} ${seen.origin.life})`;
      throw new Violation("generations", `${name} ${what} the entry of client ${client} after ${nowMs} ms`);
    }
  }
}
