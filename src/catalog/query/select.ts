/** Chooses among several entries, and among the targets of an entry (Resolve; semantics.md, Orphans: they are ranked last). */
import { invalid } from "../../lib/errors.ts";
import { fnv64, hashFraction } from "../../lib/hash64.ts";
import { lacksVersion, VersionRange } from "../../lib/versions.ts";
import { type EntryView, type TargetView, versionOf } from "../entry/view.ts";
import { type CatalogRecord, HEALTH, type Health, type KeyText, KIND, type Kind, viewHealth } from "../record/record.ts";
import { GOLDEN_RATIO, type Sampling } from "./instances.ts";

/** The policies of a choice, with their numbers on the wire. */
export const SELECT_POLICY = { LOAD_AWARE: 1, ROUND_ROBIN: 2, RANDOM: 3, HASH: 4 } as const;
export type SelectPolicy = (typeof SELECT_POLICY)[keyof typeof SELECT_POLICY];

export interface Candidate {
  readonly key: KeyText;
  readonly view: EntryView;
}

/** The preferred place. Empty for no preference. */
export interface Preference {
  readonly region: string;
  readonly zone: string;
}

export interface SelectOptions extends Preference {
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

export interface Choice<C extends Candidate = Candidate> {
  /** Best first, at most `limit`. Empty without candidates. */
  readonly ranked: readonly C[];
  /** A target of the best entry. Undefined if it has none. */
  readonly target: TargetView | undefined;
  /** With `explain`, at most MAX_EXPLAINED, best first. */
  readonly explained: readonly Ranking[] | undefined;
}

/** The reason for the place of a candidate. `rank` means that more than `limit` candidates were better. */
export interface Ranking {
  readonly key: KeyText;
  readonly kept: boolean;
  readonly reason: "kept" | "rank" | "version_range";
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

/** Best first. MAINTENANCE takes no new work; an orphan may no longer exist. */
const HEALTH_TIERS = {
  [HEALTH.UNSET]: 0,
  [HEALTH.HEALTHY]: 0,
  [HEALTH.DEGRADED]: 1,
  [HEALTH.CRITICAL]: 2,
  [HEALTH.MAINTENANCE]: 3,
  [HEALTH.ORPHANED]: 4,
} as const satisfies Record<Health, number>;
const HEALTH_TEXTS = ["unknown", "healthy", "degraded", "critical", "maintenance", "orphaned"] as const;
const NEARNESS_TEXTS = ["same zone", "same region", "elsewhere"] as const;

/** How `select` with these options ranks records before their entries are decoded. */
function rankingOf(options: Pick<SelectOptions, "policy" | "region" | "zone">): Pick<Sampling, "rank" | "ideal" | "fit"> {
  if (options.policy === SELECT_POLICY.HASH) return { rank: (record) => hashTier(healthTier(record)), ideal: 0, fit: 0 };
  const places = NEARNESS_TEXTS.length;
  return {
    rank: (record) => healthTier(record) * places + nearnessOf(record.traits, options),
    ideal: options.zone !== "" ? 0 : options.region !== "" ? 1 : places - 1,
    fit: places - 1,
  };
}

/** Best first: 0 is fit for traffic, the last tier may no longer exist. */
export function healthTier(record: CatalogRecord): number {
  return HEALTH_TIERS[viewHealth(record)];
}

function hashTier(tier: number): number {
  return tier <= 1 ? 0 : tier;
}

interface Ranked<C extends Candidate> {
  readonly candidate: C;
  readonly healthTier: number;
  readonly nearness: number;
  /** Lower is better, among equal health and distance. */
  readonly score: number;
  /** Lower is better among equal scores. */
  readonly tie: number;
}

/**
 * The part of a crowded name that these options choose from. Each ROUND_ROBIN turn and each random number leads to another part, a hash key
 * always to the same one.
 */
export function samplingOf(options: SelectOptions): Sampling {
  const ranking = rankingOf(options);
  const wanted = options.limit;
  switch (options.policy) {
    case SELECT_POLICY.HASH:
      return { ...ranking, form: "stretch", at: hashFraction(fnv64(options.hashKey)), wanted };
    case SELECT_POLICY.ROUND_ROBIN:
      return { ...ranking, form: "spread", at: (options.turn * GOLDEN_RATIO) % 1, wanted };
    case SELECT_POLICY.LOAD_AWARE:
    case SELECT_POLICY.RANDOM:
      return { ...ranking, form: "spread", at: options.random(), wanted };
  }
}

/** Sorts the candidates best first and picks a target of the best. The same candidates, options and random numbers give the same choice. */
export function select<C extends Candidate>(candidates: readonly C[], options: SelectOptions): Choice<C> {
  const inKeyOrder = candidates.toSorted((a, b) => (a.key < b.key ? -1 : Number(a.key > b.key)));
  const rated = inKeyOrder.map((candidate) => rate(candidate, options));
  // The sort is stable, so equal candidates stay in key order.
  rated.sort((a, b) => a.healthTier - b.healthTier || a.nearness - b.nearness || a.score - b.score || a.tie - b.tie);
  if (options.policy === SELECT_POLICY.ROUND_ROBIN) rotateBest(rated, options.turn);
  const best = rated[0]?.candidate;
  return {
    ranked: rated.slice(0, options.limit).map((one) => one.candidate),
    target: best === undefined ? undefined : pickTarget(best, options),
    explained: options.explain ? rated.slice(0, MAX_EXPLAINED).map((one, i) => explainRank(one, i, options)) : undefined,
  };
}

/**
 * The test whether a FUNCTION's version is in an npm-style range such as `^1.2.0`. Undefined for an empty range, which contains all
 * versions. Text that is not a version is in no range. Throws `invalid_argument` for text that is not a range, and for another kind.
 */
export function versionTest(kind: Kind, range: string): ((version: string) => boolean) | undefined {
  if (range === "") return undefined;
  if (kind !== KIND.FUNCTION) throw invalid("version_range", "only functions have versions; leave it empty");
  const wanted = new VersionRange(range);
  return (version) => wanted.has(version);
}

/** The explanation of a candidate that its version excluded. */
export function explainVersion({ key, view }: Candidate, range: string): Ranking {
  return { key, kept: false, reason: "version_range", detail: lacksVersion(versionOf(view), range) };
}

function rate<C extends Candidate>(candidate: C, options: SelectOptions): Ranked<C> {
  const { view } = candidate;
  const tier = HEALTH_TIERS[view.health];
  const nearness = nearnessOf(view, options);
  switch (options.policy) {
    case SELECT_POLICY.LOAD_AWARE:
      return {
        candidate,
        healthTier: tier,
        nearness,
        score: loadScore(view, options.nowWallMs),
        tie: options.isSample === true ? options.random() : 0,
      };
    case SELECT_POLICY.ROUND_ROBIN:
      return { candidate, healthTier: tier, nearness, score: 0, tie: 0 };
    case SELECT_POLICY.RANDOM:
      // Sorting by an exponential of rate `weight` draws without replacement in proportion to weight (Efraimidis and Spirakis, 2006).
      return { candidate, healthTier: tier, nearness, score: -Math.log(1 - options.random()) / entryWeight(view), tie: 0 };
    case SELECT_POLICY.HASH:
      // Rendezvous hashing: the lowest hash wins, so a change moves only the keys of the entry that came or went. Distance and DEGRADED
      // must not count, because they would send one key to different entries from different places or at different moments.
      return { candidate, healthTier: hashTier(tier), nearness: 0, score: rendezvous(options.hashKey, candidate.key), tie: 0 };
  }
}

/** 0 for the same zone, 1 for the same region, 2 for elsewhere or without a preference. A zone counts only in the preferred region. */
function nearnessOf(view: Pick<EntryView, "region" | "zone">, prefer: Preference): number {
  const isInRegion = prefer.region === "" || view.region === prefer.region;
  if (isInRegion && prefer.zone !== "" && view.zone === prefer.zone) return 0;
  return isInRegion && prefer.region !== "" ? 1 : 2;
}

/** 0 for idle to 1 for overloaded. Unknown load is in between, and a report fades to that value with its age. */
export function loadScore(view: EntryView, nowWallMs: number): number {
  const { load } = view;
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
function entryWeight(view: EntryView): number {
  return Math.max(1, totalWeight(preferredTargets(view.targets)));
}

function rendezvous(hashKey: string, key: KeyText): number {
  return hashFraction(fnv64(key, fnv64(`${hashKey}\0`)));
}

/** Rotates the entries that are equal to the first one, so that each has its turn. */
function rotateBest<C extends Candidate>(rated: Ranked<C>[], turn: number): void {
  const [first] = rated;
  if (first === undefined) return;
  const end = rated.findIndex((one) => one.healthTier !== first.healthTier || one.nearness !== first.nearness);
  const count = end === -1 ? rated.length : end;
  const start = turn % count;
  rated.splice(0, count, ...rated.slice(start, count), ...rated.slice(0, start));
}

function preferredTargets(targets: readonly TargetView[]): readonly TargetView[] {
  let lowest = Infinity;
  for (const target of targets) lowest = Math.min(lowest, target.priority);
  return targets.filter((target) => target.priority === lowest);
}

function totalWeight(targets: readonly TargetView[]): number {
  let total = 0;
  for (const target of targets) total += target.weight;
  return total;
}

/** One of the targets of lowest priority, chosen by weight. Without weights all have equal chances (RFC 2782's order). */
function pickTarget(candidate: Candidate, options: SelectOptions): TargetView | undefined {
  const targets = preferredTargets(candidate.view.targets);
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

function explainRank<C extends Candidate>(one: Ranked<C>, index: number, options: SelectOptions): Ranking {
  const { view, key } = one.candidate;
  const kept = index < options.limit;
  const isNearnessAsked = options.region !== "" || options.zone !== "";
  const nearness = isNearnessAsked ? `${NEARNESS_TEXTS[nearnessOf(view, options)]}, ` : "";
  const detail = `rank ${index + 1}: ${HEALTH_TEXTS[view.health]}, ${nearness}${scoreText(one, options)}`;
  return { key, kept, reason: kept ? "kept" : "rank", detail };
}

function scoreText<C extends Candidate>(one: Ranked<C>, options: SelectOptions): string {
  switch (options.policy) {
    case SELECT_POLICY.LOAD_AWARE:
      return one.candidate.view.load === undefined ? "load unknown" : `load ${one.score.toFixed(3)}`;
    case SELECT_POLICY.ROUND_ROBIN:
      return "in turn";
    case SELECT_POLICY.RANDOM:
      return `weight ${entryWeight(one.candidate.view)}`;
    case SELECT_POLICY.HASH:
      return `hash ${one.score.toFixed(6)}`;
  }
}
