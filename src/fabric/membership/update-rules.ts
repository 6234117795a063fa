/** Which updates of members are taken at all: whatever way they came, what they can make this node hold and believe is bounded here. */
import { NODE_BOUNDS } from "../../lib/bounds.ts";
import { areRulesShort } from "../borders/rules/lengths.ts";
import { MEMBER_STATUSES, type MemberUpdate } from "../wire/messages.ts";
import { GENERATIONS_PER_S, MAX_INCARNATION } from "./local-member.ts";

const STATUSES: ReadonlySet<string> = new Set(MEMBER_STATUSES);

/**
 * Counters begin at the wall clock's seconds, so an honest one is never ahead of the newest clock by more than its node changed its mind.
 * Whoever said a far higher one of another node would take its next ones away from it. Clocks may be years off, and one that does not
 * know the date counts as of this project's first year.
 */
const MAX_AHEAD_S = 10 * 365 * 86_400;
const FIRST_CLOCK_S = Date.UTC(2026, 0) / 1000;
/**
 * What contradicts a word at the bound must pass where clocks are behind. The upper half of it is for what a node says of itself, and hears of
 * itself: so there is no word of others that it cannot contradict.
 */
const CONTRADICTION_ROOM_S = 3600;

/** Why an update is refused, by the name that counters have for it; the text tells it to the node that said it of itself. */
export const UPDATE_REFUSALS = {
  status: "its status is not one that this version knows",
  number: "its generation, incarnation or health score is no whole number, or out of range",
  ahead: "its generation or incarnation is years ahead of any clock",
  text: "an id, its address or its version is empty or too long",
  list: "its roles, labels, transports, rules of neighbours or protocol versions are too many or too long",
  foreign: "its cluster or region is foreign here (fabric.trust, fabric.clusters)",
  border: "a node of another cluster says so of a node of this one",
  full: "the table of members is full",
  start:
    "it does not follow the start that was accepted last under its id: start it with --new-generation when no other node runs with this id",
  ownAddress: "its address is the one of the node that refuses it",
} as const;

export type UpdateRefusal = keyof typeof UPDATE_REFUSALS;

/** Updates that were not believed, by why. */
export type RefusedCounts = Record<UpdateRefusal | "conflictsFull" | "tooMany", number>;

export function noRefusals(): RefusedCounts {
  const faults = { status: 0, number: 0, ahead: 0, text: 0, list: 0, foreign: 0, border: 0, start: 0 };
  return { ...faults, full: 0, ownAddress: 0, conflictsFull: 0, tooMany: 0 };
}

/** What is wrong with the update by itself; undefined: nothing. `isOwn`: the node itself says so, or hears it of itself. */
export function updateFault(
  update: MemberUpdate,
  wallMs: number,
  isOwn = false,
): Exclude<UpdateRefusal, "full" | "ownAddress" | "foreign" | "border" | "start"> | undefined {
  if (!STATUSES.has(update.status)) return "status";
  if (!isCount(update.incarnation) || !isCount(update.generation) || !isCount(update.healthScore)) return "number";
  if (isFarAhead(update, wallMs, isOwn)) return "ahead";
  // Several clusters of a region are one membership: who may speak at all is decided by certificates and tokens.
  if (update.nodeId === "" || update.address === "" || update.clusterId === "") return "text";
  const { nodeId, address, clusterId, region, zone, version, accuser } = update;
  const { maxIdLength, maxAddressLength, maxVersionLength } = NODE_BOUNDS;
  if (!areShort([nodeId, clusterId, region, zone, accuser, update.boot ?? "", update.bootBefore ?? ""], maxIdLength)) return "text";
  if (address.length > maxAddressLength || version.length > maxVersionLength) return "text";
  return isListFault(update) ? "list" : undefined;
}

function isListFault({ protocolVersions, transports, roles, labels, heardRules = [] }: MemberUpdate): boolean {
  const { maxProtocolVersions, maxTransports, maxRoles, maxLabels, maxIdLength, maxLabelKeyLength, maxLabelValueLength } = NODE_BOUNDS;
  if (protocolVersions.length > maxProtocolVersions || transports.length > maxTransports || roles.length > maxRoles) return true;
  if (!areShort(transports, maxIdLength) || !areShort(roles, maxIdLength)) return true;
  // A table of members goes in one message.
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
