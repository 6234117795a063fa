/**
 * Chooses one of several entries for one answer of Resolve, and ranks the others after it (semantics.md, Selection). The functions need only a few
 * fields of an entry. A client that chooses repeatedly uses a `Chooser`, which follows the same rules.
 */
import { fnv64, type Hash64 } from "../lib/hash64.ts";
import type { Time } from "../lib/machine.ts";
import { type Candidate, Endpoint, type TargetOf } from "./endpoint.ts";
import { healthText, isReachable, TIERS } from "./health-tiers.ts";
import { hasHighErrorRate, loadScore } from "./load-score.ts";
import { LEVELS, levelText, type RankOptions, SELECT_POLICY, shareLevels } from "./locality-levels.ts";
import { EndpointPool, halvesOf, rendezvous } from "./pool.ts";
import type { NameRotation } from "./rotation-cache.ts";

/** `region` and `zone` are the preferred location. Empty means no preference. */
export interface SelectOptions extends RankOptions {
  /** For HASH: the same key selects the same entry for as long as that entry exists and is usable. */
  readonly hashKey: string;
  /** The rotation state of these candidates, which the choice changes. */
  readonly turns: NameRotation;
  /** Returns a random number in [0, 1), for random choices. */
  readonly random: () => number;
  readonly time: Time;
  /** Number of requested entries: the chosen one and the alternatives. */
  readonly limit: number;
  /** If the candidates are a sample, the total number of entries for each rank (`rankOf`), or numbers in the same proportion. */
  readonly counts: readonly number[] | undefined;
  /** Whether to explain each candidate's rank and the reason for it. */
  readonly explain: boolean;
}

/** The criterion for choosing among the entries of a level. */
export type SelectionBasis = "load" | "turn" | "random" | "hash";

export interface SelectResult<C extends Candidate> {
  /** The criterion that determined the choice. Undefined if no candidate can be chosen. */
  readonly by: SelectionBasis | undefined;
  /** The chosen entry, followed by the others, best first; at most `limit` entries. Empty if no candidate can be chosen. */
  readonly ranked: readonly C[];
  /** A target of the chosen entry. Undefined if it has none. */
  readonly target: TargetOf<C> | undefined;
  /** With `explain`: at most MAX_EXPLAINED explanations, best first. */
  readonly explained: readonly CandidateRank<C>[] | undefined;
}

/** The reason for the position of a candidate. `rank` means that at least `limit` candidates were better. */
interface CandidateRank<C extends Candidate> {
  readonly key: C["key"];
  readonly kept: boolean;
  readonly reason: "kept" | "rank" | "maintenance";
  readonly detail: string;
}

/** Maximum number of candidates that a choice explains. */
export const MAX_EXPLAINED = 1000;

interface RatedCandidate<C extends Candidate> {
  readonly endpoint: Endpoint<C>;
  /** The order among equal ranks. Lower numbers are better. */
  readonly score: number;
}

/** Values for explanations that are not fields of a candidate. */
interface ChosenDetails<C extends Candidate> {
  readonly endpoint: Endpoint<C>;
  readonly isByLoad: boolean;
  /** Each level's share of the traffic in its tier. */
  readonly shares: Float64Array;
}

/** Chooses a candidate and one of its targets. The same candidates, options, rotation state and random numbers always result in the same choice. */
export function select<C extends Candidate>(candidates: readonly C[], options: SelectOptions): SelectResult<C> {
  const endpoints = candidates.map((candidate) => new Endpoint(candidate, options)).toSorted(byKey);
  const choosable = endpoints.filter((one) => one.isChoosable);
  const chosen = choose(choosable, endpoints, options);
  const ranked = chosen === undefined ? [] : rankAll(choosable, chosen, options);
  const rest = endpoints.filter((one) => !one.isChoosable);
  return {
    by: chosen && choiceBy(chosen, options),
    ranked: ranked.slice(0, options.limit).map(({ endpoint }) => endpoint.candidate),
    target: chosen?.endpoint.target(drawOf(chosen.endpoint, options)),
    explained: options.explain
      ? [...ranked.map((one, i) => explainRank(one, i, { chosen, options })), ...rest.map(explainMaintenance)].slice(0, MAX_EXPLAINED)
      : undefined,
  };
}

function choose<C extends Candidate>(
  choosable: readonly Endpoint<C>[],
  all: readonly Endpoint<C>[],
  options: SelectOptions,
): ChosenDetails<C> | undefined {
  const { turns, policy, hashKey, random, time } = options;
  const tier = Math.min(...choosable.map((one) => one.tier));
  if (tier >= TIERS) return undefined;
  const counts = options.counts ?? countRanks(all);
  const [ofTier, ofLevel, shares] = [new Float64Array(LEVELS), new Float64Array(LEVELS), new Float64Array(LEVELS)];
  // A sample may contain no entry of an existing level.
  for (const { rank } of choosable) if (Math.floor(rank / LEVELS) === tier) ofTier[rank % LEVELS] = counts[rank] ?? 0;
  for (const [rank, count] of counts.entries()) ofLevel[rank % LEVELS] = (ofLevel[rank % LEVELS] ?? 0) + count;
  shareLevels(ofTier, ofLevel, shares);
  const rank = tier * LEVELS + turns.levels.next(shares);
  const pool = new EndpointPool<C>({ policy, start: turns.start }, turns.pools[rank]);
  const members = choosable.filter((one) => one.rank === rank);
  for (const one of members) pool.put(one);
  if (policy === SELECT_POLICY.LOAD_AWARE) for (const one of members) if (hasHighErrorRate(one.candidate.view.load)) pool.judge(one, time);
  const endpoint = policy === SELECT_POLICY.HASH ? pool.byHash(fnv64(hashKey), undefined) : pool.choose(time, random);
  if (!pool.isByLoad) turns.pools[rank] = pool.turns ?? turns.pools[rank];
  return endpoint && { endpoint, isByLoad: pool.isByLoad, shares };
}

function countRanks(endpoints: readonly { readonly rank: number }[]): readonly number[] {
  const counts = new Array<number>((TIERS + 1) * LEVELS).fill(0);
  for (const { rank } of endpoints) counts[rank] = (counts[rank] ?? 0) + 1;
  return counts;
}

/** Returns the chosen candidate, followed by the others, best first. */
function rankAll<C extends Candidate>(
  choosable: readonly Endpoint<C>[],
  chosen: ChosenDetails<C>,
  options: SelectOptions,
): readonly RatedCandidate<C>[] {
  const { endpoint, isByLoad } = chosen;
  const keyHash = fnv64(options.hashKey);
  // If the entry was chosen by rotation, it is followed by the entries whose turn is next.
  const isNext = (one: Endpoint<C>) => !isByLoad && one.rank === endpoint.rank && one.key > endpoint.key;
  const rated = choosable.map((one) => ({ endpoint: one, score: scoreOf(one, options, keyHash), turn: isNext(one) ? 0 : 1 }));
  const others = rated.filter((one) => one.endpoint !== endpoint);
  // The sort is stable, so equal candidates stay in key order.
  others.sort((x, y) => x.endpoint.rank - y.endpoint.rank || x.score - y.score || x.turn - y.turn);
  return [...rated.filter((one) => one.endpoint === endpoint), ...others];
}

function scoreOf<C extends Candidate>({ candidate, key, weight }: Endpoint<C>, options: SelectOptions, keyHash: Hash64): number {
  switch (options.policy) {
    case SELECT_POLICY.LOAD_AWARE:
      return loadScore(candidate.view.load, options.time.wallMs);
    case SELECT_POLICY.ROUND_ROBIN:
      return 0;
    case SELECT_POLICY.RANDOM:
      // Sorting by exponentially distributed numbers with the rate `weight` draws without replacement in proportion to the weight (Efraimidis
      // and Spirakis, 2006).
      return -Math.log(1 - options.random()) / weight;
    case SELECT_POLICY.HASH:
      return rendezvous(keyHash, ...halvesOf(key));
  }
}

/** The number in [0, 1) that is used to draw a target. With HASH, a key always selects the same target. */
function drawOf<C extends Candidate>({ key }: Endpoint<C>, { policy, hashKey, random }: SelectOptions): number {
  return policy === SELECT_POLICY.HASH ? rendezvous(fnv64(`${hashKey}\0target`), ...halvesOf(key)) : random();
}

function byKey(a: { readonly key: string }, b: { readonly key: string }): number {
  return a.key < b.key ? -1 : Number(a.key > b.key);
}

interface ExplainContext<C extends Candidate> {
  readonly chosen: ChosenDetails<C> | undefined;
  readonly options: SelectOptions;
}

function explainRank<C extends Candidate>(one: RatedCandidate<C>, index: number, { chosen, options }: ExplainContext<C>): CandidateRank<C> {
  const { endpoint } = one;
  const { health } = endpoint.candidate.view;
  const kept = index < options.limit;
  const bare = isReachable(endpoint.tier) ? undefined : "no target";
  const parts = [healthText(health), bare, levelPart(endpoint, chosen, options), scorePart(one, options)];
  if (endpoint === chosen?.endpoint) parts.push(DECIDED[choiceBy(chosen, options)]);
  const detail = `rank ${index + 1}: ${parts.filter((part) => part !== undefined).join(", ")}`;
  return { key: endpoint.key, kept, reason: kept ? "kept" : "rank", detail };
}

function explainMaintenance<C extends Candidate>({ key }: Endpoint<C>): CandidateRank<C> {
  return { key, kept: false, reason: "maintenance", detail: "in maintenance, so it is never chosen" };
}

function levelPart<C extends Candidate>(
  { tier, level }: Endpoint<C>,
  chosen: ChosenDetails<C> | undefined,
  options: SelectOptions,
): string | undefined {
  const text = options.policy === SELECT_POLICY.HASH ? undefined : levelText(level, options);
  const share = tier === chosen?.endpoint.tier ? (chosen.shares[level] ?? 0) : 0;
  return text === undefined || share === 0 || share === 1 ? text : `${text} (level chosen ${Math.round(share * 100)} % of the time)`;
}

function scorePart<C extends Candidate>({ endpoint, score }: RatedCandidate<C>, options: SelectOptions): string | undefined {
  switch (options.policy) {
    case SELECT_POLICY.LOAD_AWARE:
      return endpoint.candidate.view.load === undefined ? "load unknown" : `load ${score.toFixed(3)}`;
    case SELECT_POLICY.ROUND_ROBIN:
      return `weight ${endpoint.weight}`;
    case SELECT_POLICY.RANDOM:
      return `weight ${endpoint.weight}`;
    case SELECT_POLICY.HASH:
      return `hash ${score.toFixed(6)}`;
  }
}

/** The criterion as shown in explanations. */
const DECIDED: Readonly<Record<SelectionBasis, string>> = {
  load: "the less loaded of two random candidates",
  turn: "next in the rotation",
  random: "chosen at random",
  hash: "the lowest hash",
};

function choiceBy<C extends Candidate>({ isByLoad }: ChosenDetails<C>, { policy }: SelectOptions): SelectionBasis {
  switch (policy) {
    case SELECT_POLICY.LOAD_AWARE:
      return isByLoad ? "load" : "turn";
    case SELECT_POLICY.ROUND_ROBIN:
      return "turn";
    case SELECT_POLICY.RANDOM:
      return "random";
    case SELECT_POLICY.HASH:
      return "hash";
  }
}
