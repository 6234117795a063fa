/** Defines the locality levels, and computes each level's share of the traffic (semantics.md, Selection). */
import { type Fitness, stableTier, tierOf } from "./health-tiers.ts";

/** The selection policies, with their numbers on the wire. */
export const SELECT_POLICY = { LOAD_AWARE: 1, ROUND_ROBIN: 2, RANDOM: 3, HASH: 4 } as const;
export type SelectPolicy = (typeof SELECT_POLICY)[keyof typeof SELECT_POLICY];

/** A region, and a zone within it. For a preferred location, empty means no preference. */
export interface ZoneLocality {
  readonly region: string;
  readonly zone: string;
}

/** Number of levels: the preferred zone, the preferred region, elsewhere. */
export const LEVELS = 3;
/** The level of every entry if no location is preferred. */
const ELSEWHERE = LEVELS - 1;

/** The text for the level of an entry in explanations. Undefined without a preferred location. */
export function levelText(level: number, prefer: ZoneLocality): string | undefined {
  return prefer.region === "" && prefer.zone === "" ? undefined : LEVEL_TEXTS[level];
}
const LEVEL_TEXTS = ["same zone", "same region", "elsewhere"] as const;

/**
 * Returns 0 for the same zone, 1 for the same region, or 2 for elsewhere or if there is no preference. Zones are compared only within the preferred
 * region.
 */
export function levelOf(place: ZoneLocality, prefer: ZoneLocality): number {
  const isInRegion = prefer.region === "" || place.region === prefer.region;
  if (isInRegion && prefer.zone !== "" && place.zone === prefer.zone) return 0;
  return isInRegion && prefer.region !== "" ? 1 : ELSEWHERE;
}

/** The inputs that determine an entry's rank. `region` and `zone` are the preferred location. */
export interface RankOptions extends ZoneLocality {
  readonly policy: SelectPolicy;
}

/**
 * The tier and level of an entry as one number, `tier × LEVELS + level`. Lower ranks are better. An entry whose rank is `TIERS × LEVELS` or higher is
 * never chosen. HASH ignores levels and DEGRADED, because otherwise one key would select different entries from different locations or at different
 * times.
 */
export function rankOf(fitness: Fitness, place: ZoneLocality, options: RankOptions): number {
  const tier = tierOf(fitness);
  if (options.policy === SELECT_POLICY.HASH) return stableTier(tier) * LEVELS + ELSEWHERE;
  return tier * LEVELS + levelOf(place, options);
}

/** The tier of a rank. */
export function tierIn(rank: number): number {
  return Math.floor(rank / LEVELS);
}

/** The best rank that any entry can have. */
export function idealRank(options: RankOptions): number {
  if (options.policy === SELECT_POLICY.HASH) return ELSEWHERE;
  return options.zone === "" ? (options.region === "" ? ELSEWHERE : 1) : 0;
}

/** The worst rank of an entry that is fit for traffic. */
export const FIT_RANK = LEVELS - 1;

/**
 * A level is assumed to have this multiple of the capacity that it needs, so that the loss of a few entries does not move traffic away.
 */
const OVERPROVISIONING = 1.4;

/**
 * Computes each level's share of the traffic, nearest first, and writes it to `shares`. The shares sum to 1, or are all 0 if no entry can be
 * chosen. For each level, `choosable` contains the number of choosable entries in the best tier, and `all` contains the number of all entries.
 *
 * If h is the fraction of a level's entries that are choosable, the level gets at most 1.4 × h of all traffic, and the rest spills over to the next
 * level. If the levels together do not have enough capacity for all the traffic, their shares are scaled up so that they sum to 1. This is Envoy's
 * algorithm for priority levels, without its rounding to percent
 * (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority).
 */
export function shareLevels(choosable: ArrayLike<number>, all: ArrayLike<number>, shares: Float64Array): void {
  let total = 0;
  for (let i = 0; i < LEVELS; i++) {
    const room = Math.min(1, (OVERPROVISIONING * (choosable[i] ?? 0)) / Math.max(1, all[i] ?? 0));
    shares[i] = room;
    total += room;
  }
  const scale = total === 0 ? 0 : 1 / Math.min(1, total);
  let left = 1;
  for (let i = 0; i < LEVELS; i++) {
    const share = Math.min(left, (shares[i] ?? 0) * scale);
    shares[i] = share;
    left -= share;
  }
}

/** Selects levels in proportion to their shares. The choices are evenly spread and not random, so even a few choices match the shares. */
export class LevelScheduler {
  // Current weights, as in nginx's smooth weighted round robin.
  readonly #current = new Float64Array(LEVELS);

  /** Returns the next level. At least one share must be above 0. */
  next(shares: Float64Array): number {
    let best = -1;
    for (let i = 0; i < LEVELS; i++) {
      const share = shares[i] ?? 0;
      if (share === 0) continue;
      const current = (this.#current[i] ?? 0) + share;
      this.#current[i] = current;
      if (best === -1 || current > (this.#current[best] ?? 0)) best = i;
    }
    if (best !== -1) this.#current[best] = (this.#current[best] ?? 0) - 1;
    return best;
  }
}
