/**
 * Chooses among several entries, and among the targets of an entry (Resolve; semantics.md, Orphans: they are ranked last). It needs
 * only a few fields of an entry, so a client can choose by the same rules as a node.
 */
import { fnv64, hashFraction } from "../lib/hash64.ts";

/** The policies of a choice, with their numbers on the wire. */
export const SELECT_POLICY = { LOAD_AWARE: 1, ROUND_ROBIN: 2, RANDOM: 3, HASH: 4 } as const;
export type SelectPolicy = (typeof SELECT_POLICY)[keyof typeof SELECT_POLICY];

/** An entry that can be chosen, with the fields that the choice depends on. */
export interface Candidate {
  /** Names the entry. It orders equal candidates, and HASH hashes it. */
  readonly key: string;
  readonly view: Place & {
    readonly health: HealthNumber;
    readonly targets: readonly Target[];
    readonly load: Load | undefined;
  };
}

/** The health of an entry, as its number on the wire. */
export type HealthNumber = 0 | 1 | 2 | 3 | 4 | 5;

interface Place {
  readonly region: string;
  readonly zone: string;
}

/** Priority and weight have the meaning of DNS SRV records (RFC 2782). */
interface Target {
  readonly priority: number;
  readonly weight: number;
}

/** What an instance last reported about itself. */
export interface Load {
  readonly utilization: number;
  readonly errorRate: number;
  readonly latencyMs: number;
  readonly activeClients: number;
  readonly observedWallMs: number;
}

type TargetOf<C extends Candidate> = C["view"]["targets"][number];

/** `region` and `zone` are the preferred place. Empty text is no preference. */
export interface SelectOptions extends Place {
  readonly policy: SelectPolicy;
  /** ROUND_ROBIN: number of earlier choices among these candidates. */
  readonly turn: number;
  /** HASH: the same text gives the same entry while that entry is there and usable. */
  readonly hashKey: string;
  /** A random number in [0, 1) for each call, for RANDOM and for the choice of a target. */
  readonly random: () => number;
  readonly nowWallMs: number;
  /** Number of wanted entries: the chosen one and the alternatives. */
  readonly limit: number;
  /**
   * The candidates are a sample of more. Then equal candidates have equal chances to be first; otherwise the first in key order is first.
   */
  readonly isSample?: boolean;
  /** Also explain for each candidate its rank and the reason. */
  readonly explain: boolean;
}

export interface Choice<C extends Candidate> {
  /** Best first, at most `limit`. Empty without candidates. */
  readonly ranked: readonly C[];
  /** A target of the best entry. Undefined if it has none. */
  readonly target: TargetOf<C> | undefined;
  /** With `explain`, at most MAX_EXPLAINED, best first. */
  readonly explained: readonly Ranking<C>[] | undefined;
}

/** The reason for the place of a candidate. `rank` means that more than `limit` candidates were better. */
interface Ranking<C extends Candidate> {
  readonly key: C["key"];
  readonly kept: boolean;
  readonly reason: "kept" | "rank";
  readonly detail: string;
}

/** Most candidates that a choice explains. */
export const MAX_EXPLAINED = 1000;

/** Half-life of a load report. An old report counts less, and never excludes an entry. */
const LOAD_HALF_LIFE_MS = 60_000;
/** The load of an entry without a report: between idle and full. */
const UNKNOWN_LOAD = 0.5;
/** The latency and the number of clients at which their part of the score is half. */
const HALF_LATENCY_MS = 100;
const HALF_CLIENTS = 100;
/** Weight of the worst latency and of the most clients. They matter less than utilisation and errors. */
const LATENCY_WEIGHT = 0.5;
const CLIENTS_WEIGHT = 0.25;

/** By the number of the health. Lower tiers are chosen first. MAINTENANCE takes no new work; an orphan may no longer exist. */
const HEALTHS = [
  { text: "unknown", tier: 0 },
  { text: "healthy", tier: 0 },
  { text: "degraded", tier: 1 },
  { text: "critical", tier: 2 },
  { text: "maintenance", tier: 3 },
  { text: "orphaned", tier: 4 },
] as const;
const NEARNESS_TEXTS = ["same zone", "same region", "elsewhere"] as const;
const DISTANCES = NEARNESS_TEXTS.length;

/** 0 is fit for traffic, the last tier may no longer exist. */
export function healthTier(health: HealthNumber): number {
  return HEALTHS[health].tier;
}

type RankOptions = Pick<SelectOptions, "policy" | "region" | "zone">;

/** What is known of a candidate before its load: its health, then its distance. A small whole number, lower is better. */
export function rankOf(health: HealthNumber, place: Place, options: RankOptions): number {
  const tier = healthTier(health);
  // Distance and DEGRADED must not count for HASH, because they would send one key to different entries from different places or at
  // different moments.
  if (options.policy === SELECT_POLICY.HASH) return tier <= 1 ? 0 : tier;
  return tier * DISTANCES + nearnessOf(place, options);
}

/** The best rank that any candidate can have, and the worst rank of a candidate that is fit for traffic. */
export function rankBounds(options: RankOptions): { readonly ideal: number; readonly fit: number } {
  if (options.policy === SELECT_POLICY.HASH) return { ideal: 0, fit: 0 };
  return { ideal: options.region === "" && options.zone === "" ? DISTANCES - 1 : options.zone === "" ? 1 : 0, fit: DISTANCES - 1 };
}

interface Ranked<C extends Candidate> {
  readonly candidate: C;
  readonly rank: number;
  /** Lower is better, among equal ranks. */
  readonly score: number;
  /** Lower is better among equal scores. */
  readonly tie: number;
}

/** Sorts the candidates best first and picks a target of the best. The same candidates, options and random numbers give the same choice. */
export function select<C extends Candidate>(candidates: readonly C[], options: SelectOptions): Choice<C> {
  const inKeyOrder = candidates.toSorted((a, b) => (a.key < b.key ? -1 : Number(a.key > b.key)));
  const rated = inKeyOrder.map((candidate) => rate(candidate, options));
  // The sort is stable, so equal candidates stay in key order.
  rated.sort((a, b) => a.rank - b.rank || a.score - b.score || a.tie - b.tie);
  if (options.policy === SELECT_POLICY.ROUND_ROBIN) rotateBest(rated, options.turn);
  const best = rated[0]?.candidate;
  return {
    ranked: rated.slice(0, options.limit).map((one) => one.candidate),
    target: best === undefined ? undefined : pickTarget(best, options),
    explained: options.explain ? rated.slice(0, MAX_EXPLAINED).map((one, i) => explainRank(one, i, options)) : undefined,
  };
}

function rate<C extends Candidate>(candidate: C, options: SelectOptions): Ranked<C> {
  const { view } = candidate;
  const rank = rankOf(view.health, view, options);
  switch (options.policy) {
    case SELECT_POLICY.LOAD_AWARE:
      return { candidate, rank, score: loadScore(view.load, options.nowWallMs), tie: options.isSample === true ? options.random() : 0 };
    case SELECT_POLICY.ROUND_ROBIN:
      return { candidate, rank, score: 0, tie: 0 };
    case SELECT_POLICY.RANDOM:
      // Sorting by an exponential of rate `weight` draws without replacement in proportion to weight (Efraimidis and Spirakis, 2006).
      return { candidate, rank, score: -Math.log(1 - options.random()) / entryWeight(candidate), tie: 0 };
    case SELECT_POLICY.HASH:
      // Rendezvous hashing: the lowest hash wins, so a change moves only the keys of the entry that came or went.
      return { candidate, rank, score: rendezvous(options.hashKey, candidate.key), tie: 0 };
  }
}

/** 0 for the same zone, 1 for the same region, 2 for elsewhere or without a preference. A zone counts only in the preferred region. */
function nearnessOf(place: Place, prefer: Place): number {
  const isInRegion = prefer.region === "" || place.region === prefer.region;
  if (isInRegion && prefer.zone !== "" && place.zone === prefer.zone) return 0;
  return isInRegion && prefer.region !== "" ? 1 : 2;
}

/** 0 for idle to 1 for overloaded. Unknown load is in between, and a report fades to that value with its age. */
export function loadScore(load: Load | undefined, nowWallMs: number): number {
  if (load === undefined) return UNKNOWN_LOAD;
  // The parts combine like chances of refusal: one full part makes the entry full, even if the others are idle.
  const headroom =
    (1 - share(load.utilization)) *
    (1 - share(load.errorRate)) *
    (1 - LATENCY_WEIGHT * saturating(load.latencyMs, HALF_LATENCY_MS)) *
    (1 - CLIENTS_WEIGHT * saturating(load.activeClients, HALF_CLIENTS));
  // A report from the future comes from a clock ahead of ours; it is not newer.
  const ageMs = Math.max(0, nowWallMs - load.observedWallMs);
  return UNKNOWN_LOAD + (1 - headroom - UNKNOWN_LOAD) * 2 ** (-ageMs / LOAD_HALF_LIFE_MS);
}

function share(value: number): number {
  return Math.min(1, Math.max(0, value));
}

function saturating(value: number, half: number): number {
  return value <= 0 ? 0 : value / (value + half);
}

/** Sum of the weights of the usable targets, at least 1, so that an entry without weights takes an equal share. */
function entryWeight({ view }: Candidate): number {
  return Math.max(1, totalWeight(preferredTargets(view.targets)));
}

function rendezvous(hashKey: string, key: string): number {
  return hashFraction(fnv64(key, fnv64(`${hashKey}\0`)));
}

/** Rotates the entries that are equal to the first one, so that each has its turn. */
function rotateBest<C extends Candidate>(rated: Ranked<C>[], turn: number): void {
  const [first] = rated;
  if (first === undefined) return;
  const end = rated.findIndex((one) => one.rank !== first.rank);
  const count = end === -1 ? rated.length : end;
  const start = turn % count;
  rated.splice(0, count, ...rated.slice(start, count), ...rated.slice(0, start));
}

function preferredTargets<T extends Target>(targets: readonly T[]): readonly T[] {
  let lowest = Infinity;
  for (const target of targets) lowest = Math.min(lowest, target.priority);
  return targets.filter((target) => target.priority === lowest);
}

function totalWeight(targets: readonly Target[]): number {
  let total = 0;
  for (const target of targets) total += target.weight;
  return total;
}

/** One of the targets of lowest priority, chosen by weight. Without weights all have equal chances (RFC 2782's order). */
function pickTarget<C extends Candidate>(candidate: C, options: SelectOptions): TargetOf<C> | undefined {
  const targets = preferredTargets<TargetOf<C>>(candidate.view.targets);
  const total = totalWeight(targets);
  const drawn = options.policy === SELECT_POLICY.HASH ? rendezvous(`${options.hashKey}\0target`, candidate.key) : options.random();
  if (total === 0) return targets[Math.floor(drawn * targets.length)];
  let left = drawn * total;
  for (const target of targets) {
    left -= target.weight;
    if (left < 0) return target;
  }
  return targets.at(-1);
}

function explainRank<C extends Candidate>(one: Ranked<C>, index: number, options: SelectOptions): Ranking<C> {
  const { view, key } = one.candidate;
  const kept = index < options.limit;
  const isNearnessAsked = options.region !== "" || options.zone !== "";
  const nearness = isNearnessAsked ? `${NEARNESS_TEXTS[nearnessOf(view, options)]}, ` : "";
  const detail = `rank ${index + 1}: ${HEALTHS[view.health].text}, ${nearness}${scoreText(one, options)}`;
  return { key, kept, reason: kept ? "kept" : "rank", detail };
}

function scoreText<C extends Candidate>(one: Ranked<C>, options: SelectOptions): string {
  switch (options.policy) {
    case SELECT_POLICY.LOAD_AWARE:
      return one.candidate.view.load === undefined ? "load unknown" : `load ${one.score.toFixed(3)}`;
    case SELECT_POLICY.ROUND_ROBIN:
      return "in turn";
    case SELECT_POLICY.RANDOM:
      return `weight ${entryWeight(one.candidate)}`;
    case SELECT_POLICY.HASH:
      return `hash ${one.score.toFixed(6)}`;
  }
}
