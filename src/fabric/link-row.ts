/** One link as the node keeps it. */
import type { Time } from "../lib/machine.ts";
import type { Goodbye, Hello, LinkFrame, PeerProof } from "./messages.ts";
import type { LinkId } from "./seam.ts";
import type { Refusal } from "./trust.ts";

/** What is known of a link, for people and for the rest of the room. */
export interface LinkRow {
  readonly link: LinkId;
  readonly isIncoming: boolean;
  readonly state: "opening" | "greeting" | "up" | "ending";
  /** Of an outgoing link, whom it was opened to; else who said hello. Empty before. */
  readonly nodeId: string;
  readonly hello: Hello | undefined;
  /** Protocol version both speak; 0 before the hello. */
  readonly protocolVersion: number;
  readonly sinceMonoMs: number;
  readonly framesSent: number;
  readonly framesReceived: number;
}

/** A link, for people. */
export interface LinkState extends LinkRow {
  readonly isCaughtUp: boolean;
}

export interface Row extends LinkRow {
  state: LinkRow["state"];
  nodeId: string;
  hello: Hello | undefined;
  protocolVersion: number;
  sinceMonoMs: number;
  framesSent: number;
  framesReceived: number;
  proof: PeerProof | undefined;
  deadlineMonoMs: number;
  /** Greeting and farewell, to be sent before anything else. */
  readonly control: LinkFrame[];
}

/** A link that somebody else opened, until more is known. */
export function newRow(link: LinkId, time: Time, timeoutMs: number): Row {
  const deadlineMonoMs = time.monoMs + timeoutMs;
  const facts = { link, nodeId: "", hello: undefined, proof: undefined, protocolVersion: 0, sinceMonoMs: time.monoMs };
  const counts = { framesSent: 0, framesReceived: 0 };
  return { ...facts, ...counts, isIncoming: true, state: "greeting", deadlineMonoMs, control: [] };
}

export function duplicateNode(hello: Hello): Refusal {
  return { reason: "duplicate_node", detail: `${hello.nodeId} is linked with a newer generation than ${hello.generation}` };
}

/** Ends that are part of ordinary life. */
export function isQuiet(reason: Goodbye): boolean {
  return (
    reason === "leave" || reason === "restart" || reason === "duplicate_link" || reason === "not_needed" || reason === "too_many_links"
  );
}

/** Without the port: who tries again and again comes from another one each time. */
export function hostOf(proof: PeerProof | undefined): string {
  return proof === undefined ? "" : proof.address.replace(/:\d+$/, "");
}

export interface LoserFacts {
  /** This node's own. */
  readonly nodeId: string;
  /** Two links opened within this time of each other were opened from both ends. */
  readonly sameTimeMs: number;
  readonly monoMs: number;
}

/** Which of two links to one node ends; "none" when they are not of one node. */
export function loserOf(old: Row, next: Row, { nodeId, sameTimeMs, monoMs }: LoserFacts): Row | "none" {
  const [was, is] = [old.hello?.generation ?? 0, next.hello?.generation ?? 0];
  if (is < was) return "none";
  const isSameTime = monoMs - old.sinceMonoMs < sameTimeMs;
  // One that opens a second link has lost the first, even if this end has not noticed yet.
  if (is > was || old.isIncoming === next.isIncoming || !isSameTime) return old;
  const isOldBySmaller = old.isIncoming ? next.nodeId < nodeId : nodeId < next.nodeId;
  return isOldBySmaller ? next : old;
}
