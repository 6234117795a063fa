/** Whose word counts about whom (semantics.md, Membership): one cluster does not speak of the nodes of another. */

import type { MemberUpdate } from "../wire/messages.ts";
import { isListed } from "./members.ts";
import type { InstanceVerdict } from "./process-instances.ts";

/** Who told us. `newcomer`: in the table we got when we knew nobody, which is news to nobody else. */
export interface UpdateSource {
  readonly nodeId: string;
  readonly path: "gossip" | "table" | "newcomer";
  readonly clusterId: string;
}

/** What is held of the two, if anything. */
interface KnownMembers {
  readonly own: MemberUpdate;
  readonly member: MemberUpdate | undefined;
}

/** Whether a node tells of itself. */
export function isSelfReported(told: MemberUpdate, updateSource: UpdateSource): boolean {
  return told.nodeId === updateSource.nodeId;
}

/**
 * Whether a node of another cluster tells something of a node of ours that only our own cluster may tell. That it takes this node for
 * dead it may say, for this node contradicts.
 */
export function isForeignClaim(told: MemberUpdate, updateSource: UpdateSource, { own, member }: KnownMembers): boolean {
  if (updateSource.clusterId === own.clusterId) return false;
  // Who knows nobody yet must know that there are others of its cluster, of whomever it hears so: it is not to take itself for all of it.
  if (updateSource.path === "newcomer" && member === undefined && told.nodeId !== own.nodeId) return false;
  if (told.nodeId === own.nodeId) return told.generation !== own.generation || told.address !== own.address;
  return told.clusterId === own.clusterId || member?.clusterId === own.clusterId;
}

/** Whether a node that nobody of ours has told of yet is to be asked itself. */
export function shouldContact(told: MemberUpdate, { own, member }: KnownMembers): boolean {
  return member === undefined && told.nodeId !== own.nodeId && told.clusterId === own.clusterId && isListed(told.status);
}

/**
 * Whether the address that is listed is asked before this is taken: of another start or another place others are not believed, and who says
 * that it moved waits until nobody is at the old one.
 */
export function shouldAsk(told: MemberUpdate, updateSource: UpdateSource, held: MemberUpdate, start: InstanceVerdict): boolean {
  const isMoved = held.address !== told.address;
  if (isSelfReported(told, updateSource)) return isMoved && (start === "follows" || start === "unsaid");
  // Of a node that never said a start there is nothing to compare.
  return start === "follows" || (isMoved && start !== "new");
}
