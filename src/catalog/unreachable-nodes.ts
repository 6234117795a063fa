/** Members of the cluster whose writes an answer may lack, although its age does not show it (semantics.md, Age). Undefined where there are none. */

export interface UnreachableNodes {
  /** The first of them, in ascending order. */
  readonly nodeIds: readonly string[];
  readonly count: number;
}

/** Most ids in an answer. */
export const MAX_UNREACHABLE_IDS = 16;

/** Undefined when there are none. */
export function unreachableNodes(nodeIds: Iterable<string>): UnreachableNodes | undefined {
  const sorted = [...nodeIds].toSorted();
  return sorted.length === 0 ? undefined : { nodeIds: sorted.slice(0, MAX_UNREACHABLE_IDS), count: sorted.length };
}

/** The nodes that one of two parts of an answer may lack. Of more nodes than have their ids in it the count is at least this. */
export function joinUnreachable(a: UnreachableNodes | undefined, b: UnreachableNodes | undefined): UnreachableNodes | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  const joined = unreachableNodes(new Set([...a.nodeIds, ...b.nodeIds]));
  return joined && { ...joined, count: Math.max(joined.count, a.count, b.count) };
}
