/** The policy state of one link: the peer, the policy heads that the peer announced, and which of those heads may follow this node's own head. */
import { NODE_BOUNDS } from "../lib/bounds.ts";
import { isSamePlace } from "../policy/versions/version.ts";
import type { PolicyOfferSource } from "./policy-offer-sources.ts";
import type { PolicyHead } from "./wire/messages.ts";

/** The other end of a link, with its role in the policy exchange. */
export interface PolicyPeer {
  readonly nodeId: string;
  readonly clusterId: string;
  readonly source: PolicyOfferSource;
}

export const ANY_PEER: PolicyPeer = { nodeId: "", clusterId: "", source: "accepted" };

/** The state of the policy exchange on one link, in both directions. */
export class PolicyLink {
  readonly peer: PolicyPeer;
  /** The newest head that the peer announced and that may be requested. */
  announced: PolicyHead | undefined;
  /** The newest head that the peer announced, even if this node rejects it. */
  latest: PolicyHead | undefined;
  /** The last head from this node that the peer declined. This head is settled and no longer delays the peer's records. */
  settled: PolicyHead | undefined;
  /** The last head from the peer that this node reported as declined. */
  sentSettled: PolicyHead | undefined;
  /** The last head that this node sent to the peer. */
  sent: PolicyHead | undefined;
  /** The version number that the peer requested, until its bytes are read. */
  wanted = 0;
  /** The version that is being sent to the peer. */
  sending: { readonly head: PolicyHead; readonly bytes: Uint8Array; offset: number } | undefined;
  /** A head whose number is too far above the number of this node's head. Such a head is not treated as announced. */
  tooFar: PolicyHead | undefined;
  /** Failed transfers from the peer, and versions from the peer that were refused. */
  strikes = 0;
  /** Requests that the peer did not answer in time, since its last complete transfer. */
  missedCount = 0;
  conflictCount = 0;
  notTakenCount = 0;

  constructor(peer: PolicyPeer) {
    this.peer = peer;
  }
}

/** Returns why this node does not accept a policy from a peer. Returns an empty text when the policy is accepted. */
export function whyNot({ source, clusterId }: PolicyPeer): string {
  if (source === "open") return "this node's fabric has neither a token nor certificates";
  return source === "foreign" ? `policy.accept_from does not list the peer's cluster ${clusterId}` : "";
}

/** A node without a policy accepts only a number below this limit, which leaves enough later numbers. */
const FIRST_NUMBER_LIMIT = 2 ** 52;
/** Largest jump in version number that is accepted from a peer, so that a forged number cannot exhaust the range. */
export const MAX_NUMBER_STEP = 1_000_000;

export function isHead({ number, hlc, nodeId, checksum }: PolicyHead): boolean {
  if (number === 0) return true;
  const isNumber = Number.isSafeInteger(number) && number > 0 && Number.isSafeInteger(hlc) && hlc >= 0;
  return isNumber && nodeId.length <= NODE_BOUNDS.maxIdLength && /^[0-9a-f]{64}$/.test(checksum);
}

/** Returns whether this is a valid head with a number that may follow `ourNumber`. */
export function isWithin(head: PolicyHead, ourNumber: number): boolean {
  return isHead(head) && (ourNumber === 0 ? head.number < FIRST_NUMBER_LIMIT : head.number <= ourNumber + MAX_NUMBER_STEP);
}

export function nameOf({ number, hlc, nodeId, checksum }: PolicyHead): string {
  return `${number} ${hlc} ${nodeId} ${checksum}`;
}

/** Returns how a version differs from the head under which it was offered, or an empty text when it matches. */
export function differing(head: PolicyHead, facts: PolicyHead): string {
  return isSamePlace(head, facts)
    ? ""
    : `the content is version ${facts.number} of node "${facts.nodeId}", which does not match the offered head`;
}
