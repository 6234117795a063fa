/** Decides whether a node may be a leader, from its store and from the members of its cluster. */
import type { MemberUpdate } from "../../fabric/wire/messages.ts";

export interface EligibilityFacts {
  readonly isServing: boolean;
  /** Whether only this node has its control store. */
  readonly isPrivate: boolean;
  /** Whether this node has met other nodes, or its settings name some. */
  readonly hasOthers: boolean;
  /** As `foreignStores` returns them. */
  readonly foreign: ReadonlyMap<string, string>;
}

const PRIVATE = "the control store of this node is private, and the cluster has other nodes: set store.kind to etcd on all of them";

/** Why a node must not be a leader, for operators. Empty if it may be one. Private stores would each elect a leader of the same cluster. */
export function eligibilityFault({ isServing, isPrivate, hasOthers, foreign }: EligibilityFacts): string {
  if (isPrivate && hasOthers) return PRIVATE;
  const [splitBrain] = foreign.values();
  return splitBrain ?? (isServing ? "" : "the node is not ready, or is stopping");
}

/**
 * Returns the other members of this cluster that use a different control store: node ids, each with a message for operators. Empty until this node has
 * read its own store.
 */
export function foreignStores(
  members: readonly Pick<MemberUpdate, "clusterId" | "controlStore" | "nodeId">[],
  own: { readonly clusterId: string; readonly id: string },
): ReadonlyMap<string, string> {
  const foreign = new Map<string, string>();
  for (const { nodeId, clusterId, controlStore = own.id } of members) {
    if (own.id === "" || clusterId !== own.clusterId || controlStore === own.id) continue;
    const fact = `${nodeId} uses the control store ${controlStore}, and this node uses ${own.id}`;
    foreign.set(nodeId, `split brain: ${fact}: set the same store.endpoints and store.prefix on all nodes`);
  }
  return foreign;
}
