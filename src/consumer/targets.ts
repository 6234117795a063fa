/**
 * Applies the priority and weight of targets. Their meaning is the same as in DNS SRV records (RFC 2782), except that a weight of 0 means that no
 * weight is set. If no target with a given entry and priority has a weight, all have equal shares. If some have a weight, targets without a weight
 * get no traffic.
 */

export interface WeightedTarget {
  readonly priority: number;
  readonly weight: number;
}

/** Returns the targets with the lowest priority value. Other targets are used only if these do not answer. */
export function preferredTargets<T extends WeightedTarget>(targets: readonly T[]): readonly T[] {
  // HOT: runs once per entry of a snapshot. Most entries have one target.
  if (targets.length < 2) return targets;
  let lowest = Infinity;
  for (const target of targets) lowest = Math.min(lowest, target.priority);
  return targets.filter((target) => target.priority === lowest);
}

function totalWeight(targets: readonly WeightedTarget[]): number {
  let total = 0;
  for (const target of targets) total += target.weight;
  return total;
}

/**
 * The weights of targets for a reader that receives only these targets, such as a client of SRV records. A weight is 0 only if another target of the
 * same entry and priority has a weight. The reason is that HAProxy does not send traffic to a server with weight 0, and responds with 503 if all
 * servers have weight 0.
 */
export function effectiveWeights(shown: readonly { readonly entry: object; readonly target: WeightedTarget }[]): readonly number[] {
  const weighed = new Map<object, Set<number>>();
  for (const { entry, target } of shown) if (target.weight > 0) weighed.set(entry, (weighed.get(entry) ?? new Set()).add(target.priority));
  return shown.map(({ entry, target }) => target.weight || (weighed.get(entry)?.has(target.priority) === true ? 0 : 1));
}

/** The weight of an entry, computed from its preferred targets. It is at least 1, so that an entry without weights gets an equal share. */
export function entryWeight(preferred: readonly WeightedTarget[]): number {
  return Math.max(1, totalWeight(preferred));
}

/** Draws one of the preferred targets, by weight. If no target has a weight, all are equally likely. `drawn` is in [0, 1). */
export function drawTarget<T extends WeightedTarget>(preferred: readonly T[], drawn: number): T | undefined {
  const total = totalWeight(preferred);
  if (total === 0) return preferred[Math.floor(drawn * preferred.length)];
  let left = drawn * total;
  for (const target of preferred) {
    left -= target.weight;
    if (left < 0) return target;
  }
  return preferred.at(-1);
}
