/** What is known of the other end of a link, as far as the policy is concerned: whose it is, the heads it told, and which of these may follow ours. */
import { NODE_BOUNDS } from "../lib/bounds.ts";
import { isSamePlace } from "../policy/versions/version.ts";
import type { PolicyOfferSource } from "./policy-offer-sources.ts";
import type { PolicyHead } from "./wire/messages.ts";

/** The other end of a link, as far as the policy is concerned. */
export interface PolicyPeer {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly source: PolicyOfferSource;
}

export const ANY_PEER: PolicyPeer = { nodeId: "", clusterId: "", source: "accepted" };

/** What was said on a link, both ways. */
export class PolicyLink {
  readonly peer: PolicyPeer;
  /** The newest head it told that may be asked for. */
  heard: PolicyHead | undefined;
  /** The newest head it told, whatever is thought of it. */
  latest: PolicyHead | undefined;
  /** The last head of ours that it says it does not take: so that one is settled, and holds up no records. */
  settled: PolicyHead | undefined;
  /** The last head of it that it was told is not taken here. */
  toldSettled: PolicyHead | undefined;
  /** The last head told to it. */
  told: PolicyHead | undefined;
  /** The number it asks for, until its bytes are read. */
  wanted = 0;
  /** What is being sent to it. */
  sending: { readonly head: PolicyHead; readonly bytes: Uint8Array; offset: number } | undefined;
  /** A head whose number is too far above ours; it is not taken as heard. */
  tooFar: PolicyHead | undefined;
  /** Transfers from it that were no good, and versions of it that were refused. */
  strikes = 0;
  /** What was asked for and did not come, since the last that came. */
  missedCount = 0;
  conflictCount = 0;
  notTakenCount = 0;

  constructor(peer: PolicyPeer) {
    this.peer = peer;
  }
}

/** Why no policy is taken from a peer; empty when it is. */
export function whyNot({ source, clusterId }: PolicyPeer): string {
  if (source === "open") return "the fabric of this node has neither token nor certificates";
  return source === "foreign" ? `policy.accept_from does not name its cluster, ${clusterId}` : "";
}

/** A node that has no version takes a number below this; far above it there is room for all that follow. */
const FIRST_NUMBER_LIMIT = 2 ** 52;
/** How far above its own number a node takes another: who makes numbers up cannot use up those that follow. */
export const MAX_NUMBER_STEP = 1_000_000;

export function isHead({ number, hlc, nodeId, checksum }: PolicyHead): boolean {
  if (number === 0) return true;
  const isNumber = Number.isSafeInteger(number) && number > 0 && Number.isSafeInteger(hlc) && hlc >= 0;
  return isNumber && nodeId.length <= NODE_BOUNDS.maxIdLength && /^[0-9a-f]{64}$/.test(checksum);
}

/** Whether it is a head, of a number that may follow `ourNumber`. */
export function isWithin(head: PolicyHead, ourNumber: number): boolean {
  return isHead(head) && (ourNumber === 0 ? head.number < FIRST_NUMBER_LIMIT : head.number <= ourNumber + MAX_NUMBER_STEP);
}

export function nameOf({ number, hlc, nodeId, checksum }: PolicyHead): string {
  return `${number} ${hlc} ${nodeId} ${checksum}`;
}

/** How a version differs from the head it was offered under; empty when it does not. */
export function differing(head: PolicyHead, facts: PolicyHead): string {
  return isSamePlace(head, facts)
    ? ""
    : `it is version ${facts.number} of ${facts.nodeId === "" ? "nobody" : facts.nodeId}, not what its head says`;
}
