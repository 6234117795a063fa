/** One link as the node keeps it, and which of two links to one peer stays. `links.ts` moves it from state to state. */
import type { Time } from "../../lib/machine.ts";
import type { FabricEvent, LinkId } from "../io-types.ts";
import type { Goodbye, Hello, LinkFrame, MemberUpdate, PeerIdentity } from "../wire/messages.ts";
import type { Refusal } from "./peer-auth.ts";

export interface Row {
  readonly link: LinkId;
  readonly isIncoming: boolean;
  state: "opening" | "greeting" | "up" | "ending";
  /** Of an outgoing link, whom it was opened to; else who said hello. Empty before. */
  nodeId: string;
  hello: Hello | undefined;
  /** Protocol version both speak; 0 before the hello. */
  protocolVersion: number;
  sinceMonoMs: number;
  framesSent: number;
  framesReceived: number;
  identity: PeerIdentity | undefined;
  deadlineMonoMs: number;
  /** Greeting and farewell, to be sent before anything else. */
  readonly control: LinkFrame[];
}

/** What is known of a link, for people and for the rest of the room. */
export type LinkRow = Readonly<Omit<Row, "identity" | "deadlineMonoMs" | "control">>;

/** A link, for people. */
export interface LinkState extends LinkRow {
  readonly isCaughtUp: boolean;
}

/** A link that somebody else opened, until more is known. */
export function newRow(link: LinkId, time: Time, timeoutMs: number): Row {
  const deadlineMonoMs = time.monoMs + timeoutMs;
  const facts = { link, nodeId: "", hello: undefined, identity: undefined, protocolVersion: 0, sinceMonoMs: time.monoMs };
  const counts = { framesSent: 0, framesReceived: 0 };
  return { ...facts, ...counts, isIncoming: true, state: "greeting", deadlineMonoMs, control: [] };
}

/**
 * Whether the node of the old link is a member as it said, and a link to somebody of the same name, of a newer life, comes from elsewhere:
 * somebody started a second node with its id. A node that moved has its link to the old place ended, or is dead there before long.
 */
function isStillThere(old: Row, next: Row, members: Iterable<MemberUpdate>): boolean {
  if (old.hello === undefined || old.hello.address === next.hello?.address) return false;
  const { nodeId, generation, address } = old.hello;
  for (const member of members) if (member.nodeId === nodeId) return member.generation === generation && member.address === address;
  return false;
}

export function duplicateNode({ nodeId, generation }: Hello, old: Hello | undefined): Refusal {
  const isOlder = generation < (old?.generation ?? 0);
  const detail = isOlder
    ? `${nodeId} is linked with a newer generation than ${generation}`
    : `two nodes call themselves ${nodeId}; the other is at ${old?.address ?? "?"}, and alive`;
  return { reason: "duplicate_node", detail };
}

/** Ends that are part of ordinary life. */
export function isQuiet(reason: Goodbye): boolean {
  return (
    reason === "leave" || reason === "restart" || reason === "duplicate_link" || reason === "not_needed" || reason === "too_many_links"
  );
}

/** How loudly an operator is told of an end, whichever side said it. */
export function severityOf(reason: Goodbye): FabricEvent["severity"] {
  if (reason === "duplicate_node") return "error";
  return isQuiet(reason) ? "debug" : "warn";
}

export interface LoserFacts {
  /** This node's own. */
  readonly nodeId: string;
  readonly members: () => Iterable<MemberUpdate>;
  /** Two links opened within this time of each other were opened from both ends. */
  readonly sameTimeMs: number;
  readonly monoMs: number;
}

/** Which of two links to one node ends; "none" when they are not of one node: the new one is refused. */
export function loserOf(old: Row, next: Row, { nodeId, members, sameTimeMs, monoMs }: LoserFacts): Row | "none" {
  const [was, is] = [old.hello?.generation ?? 0, next.hello?.generation ?? 0];
  if (is < was || (is > was && isStillThere(old, next, members()))) return "none";
  const isSameTime = monoMs - old.sinceMonoMs < sameTimeMs;
  // One that opens a second link has lost the first, even if this end has not noticed yet.
  if (is > was || old.isIncoming === next.isIncoming || !isSameTime) return old;
  const isOldBySmaller = old.isIncoming ? next.nodeId < nodeId : nodeId < next.nodeId;
  return isOldBySmaller ? next : old;
}
