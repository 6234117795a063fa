/** Validates member updates. The limits apply to updates from any source and bound the data that a node stores and accepts. */
import { NODE_BOUNDS } from "../../lib/bounds.ts";
import { areRulesShort } from "../borders/rules/lengths.ts";
import { MEMBER_STATUSES, type MemberUpdate } from "../wire/messages.ts";
import { GENERATIONS_PER_S, MAX_INCARNATION } from "./local-member.ts";

const STATUSES: ReadonlySet<string> = new Set(MEMBER_STATUSES);

/**
 * Incarnations start from the wall clock's seconds, so a correct incarnation is ahead of the newest clock by at most the number of changes of its
 * node. If another node forged a much higher incarnation, the real node would have no higher number left. Clocks may be wrong by years. A clock that
 * is not set is assumed to be in this project's first year.
 */
const MAX_AHEAD_S = 10 * 365 * 86_400;
const FIRST_CLOCK_S = Date.UTC(2026, 0) / 1000;
/**
 * Margin above the limit for refutations, which must be accepted even by nodes whose clocks are behind. The upper half is reserved for a node's
 * updates about itself and for updates about itself that it receives. This way, a node can refute every update that others send.
 */
const CONTRADICTION_ROOM_S = 3600;

/**
 * Why an update is refused. The key is used as the reason label of the metric. The text is sent to a node whose update about itself was refused. That
 * node compares the texts of `ahead` and `start`, so these two texts are part of the protocol.
 */
export const UPDATE_REFUSALS = {
  status: "the rejecting node's version does not support this member status",
  number: "its generation, incarnation or health score is not a whole number or is out of range",
  ahead: "its generation or incarnation is years in the future",
  text: "its id, address, version or another text field is empty or too long",
  list: "it has too many roles, labels, transports, border rules or protocol versions, or one of them is too long",
  foreign: "its cluster or region is not admitted (fabric.trust, fabric.clusters)",
  border: "the sender and the updated node are in different clusters",
  full: "the member table is full",
  start:
    "it is not a successor of the last accepted process instance with its id: start it with --new-generation when no other node uses this id",
  ownAddress: "its address is the address of the rejecting node",
} as const;

export type UpdateRefusal = keyof typeof UPDATE_REFUSALS;

/** Number of refused updates, by reason. */
export type RefusedCounts = Record<UpdateRefusal | "conflictsFull" | "tooMany", number>;

export function noRefusals(): RefusedCounts {
  const faults = { status: 0, number: 0, ahead: 0, text: 0, list: 0, foreign: 0, border: 0, start: 0 };
  return { ...faults, full: 0, ownAddress: 0, conflictsFull: 0, tooMany: 0 };
}

/**
 * Returns why the update itself is invalid, or undefined when it is valid. `isOwn`: the node itself sent the update, or the update that it receives
 * is about itself.
 */
export function updateFault(
  update: MemberUpdate,
  wallMs: number,
  isOwn = false,
): Exclude<UpdateRefusal, "full" | "ownAddress" | "foreign" | "border" | "start"> | undefined {
  if (!STATUSES.has(update.status)) return "status";
  if (!isCount(update.incarnation) || !isCount(update.generation) || !isCount(update.healthScore)) return "number";
  if (isFarAhead(update, wallMs, isOwn)) return "ahead";
  // All clusters of a region form one membership. Certificates and tokens decide which nodes may participate.
  if (update.nodeId === "" || update.address === "" || update.clusterId === "") return "text";
  const { nodeId, address, clusterId, region, zone, version, accuser } = update;
  const { boot = "", bootBefore = "", controlStore = "", configDigest = "" } = update;
  const { maxIdLength, maxAddressLength, maxVersionLength } = NODE_BOUNDS;
  if (!areShort([nodeId, clusterId, region, zone, accuser, boot, bootBefore, controlStore, configDigest], maxIdLength)) return "text";
  if (address.length > maxAddressLength || version.length > maxVersionLength) return "text";
  // A URL is an address with a scheme, at most `fabric://`.
  if (!areShort(update.drain?.urls ?? [], maxAddressLength + 9)) return "text";
  const { security } = update;
  if (security !== undefined && !areShort([security.source, security.issuer, security.root, ...security.roots], maxIdLength)) return "text";
  return isListFault(update) ? "list" : undefined;
}

function isListFault({ protocolVersions, transports, roles, labels, heardRules = [], security }: MemberUpdate): boolean {
  const { maxProtocolVersions, maxTransports, maxRoles, maxLabels, maxIdLength, maxLabelKeyLength, maxLabelValueLength } = NODE_BOUNDS;
  if (protocolVersions.length > maxProtocolVersions || transports.length > maxTransports || roles.length > maxRoles) return true;
  if (!areShort(transports, maxIdLength) || !areShort(roles, maxIdLength)) return true;
  if ((security?.roots.length ?? 0) > maxRoles) return true;
  // A full member table is sent in one message, so its texts must be short.
  if (!areRulesShort(heardRules)) return true;
  const keys = Object.keys(labels);
  return keys.length > maxLabels || !areShort(keys, maxLabelKeyLength) || !areShort(Object.values(labels), maxLabelValueLength);
}

function isFarAhead({ status, incarnation, generation }: MemberUpdate, wallMs: number, isOwn: boolean): boolean {
  const newestS = Math.max(wallMs / 1000, FIRST_CLOCK_S) + MAX_AHEAD_S;
  if (generation > newestS * GENERATIONS_PER_S) return true;
  if (isOwn) return incarnation > newestS + CONTRADICTION_ROOM_S;
  return incarnation > newestS + (status === "alive" ? CONTRADICTION_ROOM_S / 2 : 0);
}

function isCount(n: number): boolean {
  return Number.isSafeInteger(n) && n >= 0 && n <= MAX_INCARNATION;
}

function areShort(texts: readonly string[], maxLength: number): boolean {
  return texts.every((text) => text.length <= maxLength);
}
