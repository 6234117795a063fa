/** Which entries can take traffic, and which of them first (semantics.md, Selection). Resolve, clients, gRPC names and DNS all decide by this file. */
import { KIND } from "../../gen/waymark/catalog/v1/entry_kinds.ts";

/** The health of an entry, as its number on the wire. */
export type HealthNumber = 0 | 1 | 2 | 3 | 4 | 5;

/** What the tier of an entry depends on. */
export interface Fitness {
  readonly health: HealthNumber;
  /** Whether callers can reach it: it has a target, or the node that hosts it has (`isHosted`). */
  readonly hasTarget: boolean;
}

/** Number of tiers of health: healthy and unknown, degraded, critical and orphaned. */
const HEALTH_TIERS = 3;
/** Number of tiers that an entry can be chosen from: those of health with a target, then those without. MAINTENANCE is in the tier of this number, which is never chosen. */
export const TIERS = 2 * HEALTH_TIERS;

/**
 * By the number of the health. `tier` is for choices: the lowest tier that has an entry wins. `listed` is for lists that leave nothing out, such as
 * DNS answers: lower comes first. An orphan comes after all others, because it may no longer exist, and MAINTENANCE last, because DNS never shows it.
 */
const HEALTHS = [
  { text: "unknown", tier: 0, listed: 0 },
  { text: "healthy", tier: 0, listed: 0 },
  { text: "degraded", tier: 1, listed: 1 },
  { text: "critical", tier: 2, listed: 2 },
  { text: "maintenance", tier: TIERS, listed: 4 },
  { text: "orphaned", tier: 2, listed: 3 },
] as const;

/** The tier of an entry. An entry without a target comes after all that have one, whatever its health. */
export function tierOf({ health, hasTarget }: Fitness): number {
  const { tier } = HEALTHS[health];
  return hasTarget || tier === TIERS ? tier : HEALTH_TIERS + tier;
}

/** The same tier for DEGRADED as for HEALTHY, for choices that must not move when an entry degrades. */
export function steadyTier(tier: number): number {
  return tier % HEALTH_TIERS === 1 ? tier - 1 : tier;
}

/** Whether callers can reach the entries of this tier. */
export function isReachable(tier: number): boolean {
  return tier < HEALTH_TIERS;
}

/** Whether an operator took the entry out of traffic. No reader is sent to it. */
export function isDrained({ health }: { readonly health: HealthNumber }): boolean {
  return HEALTHS[health].tier === TIERS;
}

/** The items of the best tier that there is. */
export function bestOf<T>(items: readonly T[], fitnessOf: (item: T) => Fitness): readonly T[] {
  const tiers = items.map((item) => tierOf(fitnessOf(item)));
  // HOT: a name may have thousands, more than a call can have arguments.
  const best = tiers.reduce((least, tier) => Math.min(least, tier), TIERS);
  return items.filter((_, at) => tiers[at] === best);
}

/** Whether entries of this kind that have no target are reached through the node that hosts them. */
export function isHosted(kind: number): boolean {
  return kind === KIND.FUNCTION || kind === KIND.QUEUE;
}

/** The order of an entry in a list of all, such as a DNS answer. 0 is fit for traffic, the last is not shown. */
export function healthOrder(health: HealthNumber): number {
  return HEALTHS[health].listed;
}

/** The word for a health in explanations. */
export function healthText(health: HealthNumber): string {
  return HEALTHS[health].text;
}
