/** Decides which nodes may report on which members (semantics.md, Membership): a cluster does not report on the nodes of another cluster. */

import type { MemberUpdate } from "../wire/messages.ts";
import { isListed } from "./members.ts";
import type { InstanceVerdict } from "./process-instances.ts";

/**
 * The sender of an update. `newcomer`: the update came in a table that this node received when it knew no other member, so the update need not be
 * gossiped.
 */
export interface UpdateSource {
  readonly nodeId: string;
  readonly path: "gossip" | "table" | "newcomer";
  readonly clusterId: string;
}

/** The known updates about this node and about the member in question. */
interface KnownMembers {
  readonly own: MemberUpdate;
  readonly member: MemberUpdate | undefined;
}

/** Returns whether a node reports on itself. */
export function isOwnUpdate(update: MemberUpdate, sender: UpdateSource): boolean {
  return update.nodeId === sender.nodeId;
}

/**
 * Returns whether a node of another cluster reports a fact about a node of this cluster that only this cluster is allowed to report. The other
 * cluster may report that it considers this node dead, because this node refutes the report.
 */
export function isUnauthorizedReport(update: MemberUpdate, sender: UpdateSource, { own, member }: KnownMembers): boolean {
  if (sender.clusterId === own.clusterId) return false;
  // A node that does not know any member yet must learn from any sender that its cluster has other nodes. Otherwise, it would assume that it is the
  // only node of the cluster.
  if (sender.path === "newcomer" && member === undefined && update.nodeId !== own.nodeId) return false;
  if (update.nodeId === own.nodeId) return update.generation !== own.generation || update.address !== own.address;
  return update.clusterId === own.clusterId || member?.clusterId === own.clusterId;
}

/** Returns whether to contact a node directly because no node of this cluster has reported it yet. */
export function shouldContact(update: MemberUpdate, { own, member }: KnownMembers): boolean {
  return member === undefined && update.nodeId !== own.nodeId && update.clusterId === own.clusterId && isListed(update.status);
}

/**
 * Returns whether to probe the listed address before the update is accepted. Another node's report about a different process instance or address is
 * not trusted. If a node reports its own move, the update waits until no node answers at the old address.
 */
export function needsProbe(update: MemberUpdate, sender: UpdateSource, held: MemberUpdate, start: InstanceVerdict): boolean {
  const isMoved = held.address !== update.address;
  if (isOwnUpdate(update, sender)) return isMoved && (start === "follows" || start === "unnamed");
  // If the node has never announced a process instance, there is nothing to compare with.
  return start === "follows" || (isMoved && start !== "new");
}
