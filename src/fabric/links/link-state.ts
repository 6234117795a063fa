/** The state of one link, and the rule that decides which of two links to the same peer stays up. `links.ts` changes the state. */
import type { Time } from "../../lib/machine.ts";
import type { FabricEvent, LinkId } from "../io-types.ts";
import type { Goodbye, Hello, LinkFrame, MemberUpdate, PeerIdentity } from "../wire/messages.ts";
import type { PeerRefusal } from "./peer-auth.ts";

export interface LinkRecord {
  readonly link: LinkId;
  readonly isIncoming: boolean;
  state: "opening" | "greeting" | "up" | "ending";
  /** The node to which an outgoing link was opened, or the node that sent a hello on an incoming link. Empty before the hello of an incoming link. */
  nodeId: string;
  hello: Hello | undefined;
  /** The highest protocol version that both nodes support, or 0 before the hello. */
  protocolVersion: number;
  sinceMonoMs: number;
  framesSent: number;
  framesReceived: number;
  identity: PeerIdentity | undefined;
  deadlineMonoMs: number;
  /** Hello and goodbye frames that must be sent before all other frames. */
  readonly control: LinkFrame[];
}

/** The public facts of a link. */
export type LinkRow = Readonly<Omit<LinkRecord, "identity" | "deadlineMonoMs" | "control">>;

/** A link, as shown to users. */
export interface LinkState extends LinkRow {
  readonly isCaughtUp: boolean;
}

/** Returns the state of an incoming link before its hello. */
export function newRow(link: LinkId, time: Time, timeoutMs: number): LinkRecord {
  const deadlineMonoMs = time.monoMs + timeoutMs;
  const facts = { link, nodeId: "", hello: undefined, identity: undefined, protocolVersion: 0, sinceMonoMs: time.monoMs };
  const counts = { framesSent: 0, framesReceived: 0 };
  return { ...facts, ...counts, isIncoming: true, state: "greeting", deadlineMonoMs, control: [] };
}

/**
 * Returns whether the node of the old link is still a member at its address, although the new link has the same id, a higher generation, and another
 * address. If so, a second node was started with this id. If the node has moved instead, its old link ends, or the node at its old address is soon
 * declared dead.
 */
function isStillThere(old: LinkRecord, next: LinkRecord, members: Iterable<MemberUpdate>): boolean {
  if (old.hello === undefined || old.hello.address === next.hello?.address) return false;
  const { nodeId, generation, address } = old.hello;
  for (const member of members) if (member.nodeId === nodeId) return member.generation === generation && member.address === address;
  return false;
}

export function duplicateNode({ nodeId, generation }: Hello, old: Hello | undefined): PeerRefusal {
  const isOlder = generation < (old?.generation ?? 0);
  const detail = isOlder
    ? `node ${nodeId} already has a link with a newer generation than ${generation}`
    : `two nodes have the id ${nodeId}; the other node is running at ${old?.address ?? "?"}`;
  return { reason: "duplicate_node", detail };
}

/** Returns whether it is normal for links to end for this reason. */
export function isQuiet(reason: Goodbye): boolean {
  return (
    reason === "leave" || reason === "restart" || reason === "duplicate_link" || reason === "not_needed" || reason === "too_many_links"
  );
}

/** Returns the severity of the event for a link that was ended by either side. */
export function severityOf(reason: Goodbye): FabricEvent["severity"] {
  if (reason === "duplicate_node") return "error";
  return isQuiet(reason) ? "debug" : "warn";
}

export interface RedundantLinkFacts {
  /** The id of this node. */
  readonly nodeId: string;
  readonly members: () => Iterable<MemberUpdate>;
  /** If two links came up within this time of each other, each side is assumed to have opened one. */
  readonly sameTimeMs: number;
  readonly monoMs: number;
}

/** Returns which of two links must end, or "none" when the links belong to different nodes, in which case the new link is refused. */
export function loserOf(
  old: LinkRecord,
  next: LinkRecord,
  { nodeId, members, sameTimeMs, monoMs }: RedundantLinkFacts,
): LinkRecord | "none" {
  const [was, is] = [old.hello?.generation ?? 0, next.hello?.generation ?? 0];
  if (is < was || (is > was && isStillThere(old, next, members()))) return "none";
  const isSameTime = monoMs - old.sinceMonoMs < sameTimeMs;
  // A peer that opens a second link has lost the first one, even if this node has not noticed the loss yet.
  if (is > was || old.isIncoming === next.isIncoming || !isSameTime) return old;
  const isOldBySmaller = old.isIncoming ? next.nodeId < nodeId : nodeId < next.nodeId;
  return isOldBySmaller ? next : old;
}
