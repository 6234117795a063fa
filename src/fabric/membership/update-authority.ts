/** Decides which nodes may report on which members (semantics.md, Membership): one cluster does not report on the nodes of another. */

import type { MemberUpdate } from "../wire/messages.ts";
import { isListed } from "./members.ts";
import type { InstanceVerdict } from "./process-instances.ts";

/** The sender of an update. `newcomer`: the update came in a table that this node got when it knew no other member, so it need not be gossiped. */
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
 * Returns whether a node of another cluster reports a fact about a node of this cluster that only this cluster may report. It may report that it considers this
 * node dead, because this node refutes.
 */
export function isUnauthorizedReport(update: MemberUpdate, sender: UpdateSource, { own, member }: KnownMembers): boolean {
  if (sender.clusterId === own.clusterId) return false;
  // A node that knows no member yet must learn from any sender that its cluster has other nodes. Otherwise it would assume that it is the whole cluster.
  if (sender.path === "newcomer" && member === undefined && update.nodeId !== own.nodeId) return false;
  if (update.nodeId === own.nodeId) return update.generation !== own.generation || update.address !== own.address;
  return update.clusterId === own.clusterId || member?.clusterId === own.clusterId;
}

/** Returns whether to contact a node directly that no node of this cluster has reported yet. */
export function shouldContact(update: MemberUpdate, { own, member }: KnownMembers): boolean {
  return member === undefined && update.nodeId !== own.nodeId && update.clusterId === own.clusterId && isListed(update.status);
}

/**
 * Returns whether to probe the listed address before the update is accepted. Reports of other nodes about another process instance or another address are not
 * trusted. A node that reports its own move waits until no node answers at the old address.
 */
export function needsProbe(update: MemberUpdate, sender: UpdateSource, held: MemberUpdate, start: InstanceVerdict): boolean {
  const isMoved = held.address !== update.address;
  if (isOwnUpdate(update, sender)) return isMoved && (start === "follows" || start === "unnamed");
  // If the node never announced a process instance, there is none to compare with.
  return start === "follows" || (isMoved && start !== "new");
}
