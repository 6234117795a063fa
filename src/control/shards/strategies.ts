/** Strategies compute how well each owner suits each shard. Plans add loads and limits. */
import { firstIndex } from "../../lib/bisect.ts";
import { fnv64, mixedFraction } from "../../lib/hash64.ts";
import type { ShardSettings } from "./records.ts";

type Strategy = ShardSettings["strategy"];

/** The facts about an owner on which its scores depend. */
export interface ScoredOwner {
  readonly instance: string;
  /** Greater than 0. An owner with a weight of 2 is best for twice as many shards as an owner with a weight of 1. */
  readonly weight: number;
  readonly zone: string;
  readonly region: string;
}

/**
 * The score of the owner with this index for a shard: the lower it is, the better they suit each other. The scores of one owner for different shards
 * can be compared, too. HOT: runs for each owner of each shard that moves.
 */
export type Scorer = (id: number, hint: string, owner: number) => number;

/** A score does not depend on the other owners. Therefore, a new owner is the best one for some shards and does not change the order of the others. */
export function scorer(strategy: Strategy, namespace: string, owners: readonly ScoredOwner[]): Scorer {
  switch (strategy) {
    case "rendezvous":
      return rendezvous(namespace, owners);
    case "ring":
      return ring(namespace, owners);
    case "locality":
      return locality(namespace, owners);
  }
}

/**
 * Rendezvous hashing (Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998) with weights (Schindelhauer and Schomaker,
 * "Weighted Distributed Hash Tables", 2005). The score is −ln(u) / weight, where u in (0, 1] depends on the owner and the shard. It is the time until
 * the first event of a Poisson process whose rate is the weight, so an owner is first with a probability that is its share of all weights.
 */
function rendezvous(namespace: string, owners: readonly ScoredOwner[]): Scorer {
  const hashes = Uint32Array.from(owners.flatMap(({ instance }) => halvesOf(namespace, instance)));
  const weights = Float64Array.from(owners, ({ weight }) => weight);
  return (id, _hint, owner) => {
    const fraction = mixedFraction(hashes[2 * owner] ?? 0, (hashes[2 * owner + 1] ?? 0) ^ id);
    return -Math.log(1 - fraction) / (weights[owner] ?? 1);
  };
}

/** Points on the ring of an owner with a weight of 1. */
const POINTS = 128;
/** Maximum number of points of an owner. */
const MAX_POINTS = 100 * POINTS;

/**
 * Consistent hashing (Karger et al., "Consistent Hashing and Random Trees", 1997). The score is the distance, clockwise, from the point of the shard to
 * the nearest point of the owner, as a share of the ring. An owner has 128 × weight points, at most 12,800.
 */
function ring(namespace: string, owners: readonly ScoredOwner[]): Scorer {
  const points = owners.map(({ instance, weight }) => {
    const [high, low] = halvesOf(namespace, instance);
    const count = Math.min(Math.max(Math.round(weight * POINTS), 1), MAX_POINTS);
    return Float64Array.from({ length: count }, (_, i) => mixedFraction(high, low ^ i)).toSorted();
  });
  const [high, low] = halvesOf(namespace, "");
  return (id, _hint, owner) => {
    const own = points[owner] ?? new Float64Array(1);
    const at = mixedFraction(high, low ^ id);
    const next = firstIndex(own.length, (i) => (own[i] ?? 0) >= at);
    return next < own.length ? (own[next] ?? 0) - at : (own[0] ?? 0) + 1 - at;
  };
}

/**
 * Rendezvous hashing among the owners in the place of the hint, `<region>/<zone>` or `<region>`. If these have no room, owners of its region follow,
 * then all others. Without a hint, all owners are equal.
 */
function locality(namespace: string, owners: readonly ScoredOwner[]): Scorer {
  const score = rendezvous(namespace, owners);
  const distances = new Map<string, Uint8Array>();
  let last = "";
  let away: Uint8Array = new Uint8Array(owners.length);
  return (id, hint, owner) => {
    if (hint !== last) {
      away = distances.get(hint) ?? Uint8Array.from(owners, (each) => distanceOf(hint, each));
      distances.set(hint, away);
      last = hint;
    }
    const within = score(id, hint, owner);
    return (away[owner] ?? 0) + within / (1 + within);
  };
}

/** 0 in the place of the hint, 1 in its region, 2 elsewhere. */
function distanceOf(hint: string, { region, zone }: ScoredOwner): number {
  if (hint === "" || hint === region || hint === `${region}/${zone}`) return 0;
  return hint.startsWith(`${region}/`) ? 1 : 2;
}

/** The hash of an owner, as two halves. */
function halvesOf(namespace: string, instance: string): readonly [number, number] {
  const { high, low } = fnv64(`${namespace}\0${instance}`);
  return [high, low];
}
