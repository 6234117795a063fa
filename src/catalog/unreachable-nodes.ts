/**
 * Members of the cluster whose writes an answer may lack, although the age of the answer does not show this (semantics.md, Age).
 */

export interface UnreachableNodes {
  /** The ids of the first unreachable nodes, in ascending order. */
  readonly nodeIds: readonly string[];
  readonly count: number;
}

/** Maximum number of ids in an answer. */
export const MAX_UNREACHABLE_IDS = 16;

/** Sorts and limits the ids. Undefined if there are none. */
export function unreachableNodes(nodeIds: Iterable<string>): UnreachableNodes | undefined {
  const sorted = [...nodeIds].toSorted();
  return sorted.length === 0 ? undefined : { nodeIds: sorted.slice(0, MAX_UNREACHABLE_IDS), count: sorted.length };
}

/** Combines the unreachable nodes of two parts of an answer. If not all ids are known, the count is a lower bound. */
export function joinUnreachable(a: UnreachableNodes | undefined, b: UnreachableNodes | undefined): UnreachableNodes | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  const joined = unreachableNodes(new Set([...a.nodeIds, ...b.nodeIds]));
  return joined && { ...joined, count: Math.max(joined.count, a.count, b.count) };
}
