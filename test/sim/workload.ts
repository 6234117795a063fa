/** Makes a plan from a seed: which nodes join by which, what clients do, and what goes wrong. */
import { SCOPE, type Scope } from "../../src/catalog/entry/scope.ts";
import { Rng } from "../../src/lib/rng.ts";
import { LINKS_OPTIONS } from "../fakes/options.ts";
import { faultSteps } from "./faults.ts";
import type { Place, Plan, Step, WatchPlan } from "./plan.ts";
import { races, storySteps, unheardEnds } from "./stories.ts";
import { ASKED_COUNT, FILTER_COUNT } from "./watch.ts";

export interface Size {
  /** 0 means 3 to 7. */
  readonly nodes: number;
  /** Virtual minutes of work and faults; 0 means 30 to 70 s. */
  readonly minutes: number;
}

/** Clients that only a story uses, so that no other work disturbs them. */
const STORY_CLIENTS = 4;
/** Enough entries for a withdrawal in many slices. */
const UNHEARD_CLIENTS = 30;

export function planOf(seed: string | number, size: Size = { nodes: 0, minutes: 0 }): Plan {
  const rng = new Rng(`sim/${seed}`);
  const shape = rng.fork("shape");
  // Some worlds have more nodes than links.
  const isSparse = size.nodes === 0 && rng.fork("links").int(16) === 0;
  const count = size.nodes > 0 ? size.nodes : 3 + shape.int(5) + (isSparse ? 11 : 0);
  const places = placesOf(shape, count);
  const isCalm = shape.int(8) === 0;
  const activeMs = size.minutes > 0 ? size.minutes * 60_000 : 30_000 + shape.int(40_000);
  const faults = isCalm ? [] : faultSteps(rng.fork("faults"), places, activeMs);
  const clientCount = size.nodes > 0 ? Math.max(10, count) : 4 + shape.int(12);
  const hasLocal = shape.int(4) === 0;
  const race = rng.fork("race");
  const isRace = size.nodes === 0 && race.int(5) === 0;
  const work = workSteps(rng.fork("work"), { places, clientCount, activeMs, hasLocal });
  const stage = { places, clientCount, activeMs };
  const story = size.nodes > 0 ? [] : storySteps(rng.fork("story"), { ...stage, clientCount: clientCount + STORY_CLIENTS });
  const stories = isRace ? [...races(race, stage), ...story] : story;
  const ends = rng.fork("ends");
  const isOfEnds = size.nodes === 0 && ends.int(12) === 0;
  const steps = (isOfEnds ? unheardEnds(ends, { ...stage, clientCount: UNHEARD_CLIENTS }) : [...work, ...stories, ...faults]).toSorted(
    (a, b) => a.atMs - b.atMs,
  );
  const isSomebodyGone = steps.some((step) => (step.kind === "crash" || step.kind === "stop") && step.downMs === undefined);
  return {
    seed: String(seed),
    places,
    ...joinsOf(shape, places, isSomebodyGone),
    clientCount: isOfEnds ? UNHEARD_CLIENTS : clientCount + (story.length > 0 ? STORY_CLIENTS : 0),
    watches: watchesOf(rng.fork("watches"), count),
    steps,
    activeMs,
    settleMs: 120_000,
    isUnruly: shape.int(3) === 0,
    isEncoded: size.nodes === 0 && shape.int(6) === 0,
    delayMs: 1 + shape.int(30),
    frameBytes: shape.int(3) === 0 ? 200 + shape.int(600) : 64 * 1024,
    tombstoneTtlMs: shape.int(2) === 0 ? 300_000 : 12_000,
    // Collected by number, a tombstone may go before everybody has heard of it: at 100,000, not at ten.
    minTombstones: isOfEnds ? 1 : 1000,
    snapshotMs: shape.int(2) === 0 ? 0 : 2000 + shape.int(15_000),
    hasLocal,
    maxLinks: isSparse ? 8 : LINKS_OPTIONS.maxLinks,
    commitMs: disksOf(shape, isRace, count),
  };
}

/** How long each node's journal takes: mostly the same for all; in a race every second one is slow. */
function disksOf(rng: Rng, isRace: boolean, count: number): readonly number[] {
  const isSlow = rng.int(3) === 0;
  const slowMs = 30 + rng.int(200);
  return Array.from({ length: count }, (_, i) => ((isRace ? i % 2 === 0 : isSlow) ? slowMs : 3));
}

/** Where each node is: mostly all in one cluster, else in two of one region, or also in a third of another region. */
function placesOf(rng: Rng, count: number): readonly Place[] {
  const kind = rng.int(10);
  return Array.from({ length: count }, (_, i) => {
    if (kind < 6 || count < 4) return { clusterId: "c1", region: "r1" };
    if (kind < 9) return { clusterId: i % 2 === 0 ? "c1" : "c2", region: "r1" };
    return i % 3 === 2 ? { clusterId: "c3", region: "r2" } : { clusterId: i % 3 === 0 ? "c1" : "c2", region: "r1" };
  });
}

/** Star, chain or random: each joins by one or two that start before it; and by the first two where another never comes back. */
function joinsOf(
  rng: Rng,
  places: readonly Place[],
  isSomebodyGone: boolean,
): { seeds: readonly (readonly number[])[]; startMs: readonly number[] } {
  const shape = rng.int(3);
  const isTogether = rng.int(2) === 0;
  const seeds = places.map((_, i) => {
    if (i === 0) return shape === 0 ? [] : [1];
    if (shape === 0) return [0];
    return shape === 1 ? [i - 1] : [rng.int(i), rng.int(places.length)].filter((other) => other !== i);
  });
  if (isSomebodyGone) seeds.forEach((some, i) => some.push(...[0, 1].filter((first) => first !== i)));
  // Nodes of another region do not tell who else is there.
  if (places.some(({ region }) => region !== places[0]?.region))
    seeds.forEach((some, i) => {
      const near = places.flatMap(({ region }, other) => (other < i && region === places[i]?.region ? [other] : []));
      some.push(...near.slice(0, 1), ...near.slice(-1));
    });
  return { seeds, startMs: places.map((_, i) => (isTogether ? rng.int(50) : i * rng.int(1500))) };
}

function watchesOf(rng: Rng, count: number): readonly WatchPlan[] {
  return Array.from({ length: 2 + rng.int(3) }, () => ({
    node: rng.int(count),
    filter: rng.int(FILTER_COUNT),
    everyMs: 100 + rng.int(2500),
    budgetBytes: 300 + rng.int(4000),
  }));
}

/** Of all requests the share that is static, with a short ttl, … */
const TTLS_MS: readonly number[] = [0, 0, 3000, 5000, 8000];
const SCOPES: readonly Scope[] = [SCOPE.ZONE, SCOPE.ZONE, SCOPE.ZONE, SCOPE.REGION, SCOPE.REGION, SCOPE.GLOBAL, SCOPE.LOCAL];

function workSteps(
  rng: Rng,
  { places, clientCount, activeMs, hasLocal }: Pick<Plan, "places" | "clientCount" | "activeMs" | "hasLocal">,
): readonly Step[] {
  const steps: Step[] = [];
  const homes = Array.from({ length: clientCount }, () => places[rng.int(places.length)]?.clusterId);
  const nodeFor = (client: number) => {
    const indexes = places.flatMap(({ clusterId }, i) => (clusterId === homes[client] ? [i] : []));
    return indexes[rng.int(indexes.length)] ?? 0;
  };
  const isPolitical = rng.int(4) === 0;
  const meanMs = 200 + rng.int(800);
  for (let atMs = 500 + rng.int(2000); atMs < activeMs; atMs += Math.ceil(2 * meanMs * rng.next())) {
    const client = rng.int(clientCount);
    const kind = rng.int(20);
    if (kind < 11) {
      const [variant, scope, ttlMs] = [
        rng.int(5),
        SCOPES[rng.int(hasLocal ? SCOPES.length : SCOPES.length - 1)] ?? SCOPE.ZONE,
        TTLS_MS[rng.int(TTLS_MS.length)] ?? 0,
      ];
      steps.push({ atMs, kind: "register", client, node: nodeFor(client), variant, scope, ttlMs });
    } else if (kind < 14) steps.push({ atMs, kind: "unregister", client, node: nodeFor(client) });
    else if (kind < 16) steps.push({ atMs, kind: "report", client, health: ([1, 2, 3] as const)[rng.int(3)] ?? 1 });
    else if (kind === 16) steps.push({ atMs, kind: "abandon", client });
    else if (kind === 17) {
      const [watch, node] = [rng.int(5), rng.int(places.length)];
      // Without another number drawn: plans of old stay as they were but for this.
      if (atMs % 2 === 0) steps.push({ atMs, kind: "watchMove", watch, node });
      else steps.push({ atMs, kind: "watchElse", watch, asked: atMs % ASKED_COUNT });
    } else if (kind === 18) steps.push({ atMs, kind: "read", node: rng.int(places.length) });
    else if (isPolitical) steps.push({ atMs, kind: "policy", node: rng.int(places.length), variant: rng.int(4) });
  }
  return steps;
}
