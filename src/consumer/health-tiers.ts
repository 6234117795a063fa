/**
 * Defines which entries can receive traffic, and in which order (semantics.md, Selection). Resolve, clients, gRPC names and DNS all use this
 * file.
 */
import { KIND } from "../../gen/waymark/catalog/v1/entry_kinds.ts";

/** The health of an entry as its number in the proto. */
export type HealthNumber = 0 | 1 | 2 | 3 | 4 | 5;

/** The inputs that determine an entry's tier. */
export interface Fitness {
  readonly health: HealthNumber;
  /** Whether callers can reach the entry, because it has a target or is called through the node that hosts it (`isHosted`). */
  readonly hasTarget: boolean;
}

/** Number of health tiers: healthy and unknown, degraded, critical and orphaned. */
const HEALTH_TIERS = 3;
/**
 * Number of tiers from which an entry can be chosen: the health tiers with a target, then the health tiers without a target. This number is also the
 * tier of MAINTENANCE, which is never chosen.
 */
export const TIERS = 2 * HEALTH_TIERS;

/**
 * Indexed by the number of the health. `tier` is for choices: the lowest tier that has an entry is used. `listed` is for complete lists, such as DNS
 * answers: entries with lower numbers come first. Orphaned entries come after all others, because they may no longer exist, and MAINTENANCE is last,
 * because DNS never shows it.
 */
const HEALTHS = [
  { text: "unknown", tier: 0, listed: 0 },
  { text: "healthy", tier: 0, listed: 0 },
  { text: "degraded", tier: 1, listed: 1 },
  { text: "critical", tier: 2, listed: 2 },
  { text: "maintenance", tier: TIERS, listed: 4 },
  { text: "orphaned", tier: 2, listed: 3 },
] as const;

/** The tier of an entry. Entries without a target come after all entries with a target, regardless of health. */
export function tierOf({ health, hasTarget }: Fitness): number {
  const { tier } = HEALTHS[health];
  return hasTarget || tier === TIERS ? tier : HEALTH_TIERS + tier;
}

/** Maps DEGRADED to the tier of HEALTHY, for choices that must not change when an entry becomes degraded. */
export function stableTier(tier: number): number {
  return tier % HEALTH_TIERS === 1 ? tier - 1 : tier;
}

/** Whether callers can reach the entries of this tier. */
export function isReachable(tier: number): boolean {
  return tier < HEALTH_TIERS;
}

/** Whether an operator has put the entry into maintenance. Callers are never directed to such an entry. */
export function isDrained({ health }: { readonly health: HealthNumber }): boolean {
  return HEALTHS[health].tier === TIERS;
}

/** Returns the items in the best tier that has any items. */
export function bestTierOf<T>(items: readonly T[], fitnessOf: (item: T) => Fitness): readonly T[] {
  const tiers = items.map((item) => tierOf(fitnessOf(item)));
  // HOT: a name may have thousands of items, too many for the arguments of one call of Math.min.
  const best = tiers.reduce((least, tier) => Math.min(least, tier), TIERS);
  return items.filter((_, at) => tiers[at] === best);
}

/** Whether entries of this kind without a target are called through the node that hosts them. */
export function isHosted(kind: number): boolean {
  return kind === KIND.FUNCTION || kind === KIND.QUEUE;
}

/**
 * The rank of an entry in a complete list, such as a DNS answer. An entry with rank 0 can receive traffic, and an entry with the last rank is not
 * shown.
 */
export function healthOrder(health: HealthNumber): number {
  return HEALTHS[health].listed;
}

/** The text for a health value in explanations. */
export function healthText(health: HealthNumber): string {
  return HEALTHS[health].text;
}
