/** Which updates of members are taken at all: whatever way they came, what they can make this node hold and believe is bounded here. */
import { MEMBER_STATUSES, type MemberUpdate } from "./messages.ts";
import { GENERATIONS_PER_S, MAX_INCARNATION } from "./self.ts";

const MAX_TEXT = 256;
const MAX_LIST = 16;
const MAX_LABELS = 64;
const STATUSES: ReadonlySet<string> = new Set(MEMBER_STATUSES);

/**
 * Counters begin at the wall clock's seconds, so an honest one is never ahead of the newest clock by more than its node changed its mind.
 * Whoever said a far higher one of another node would take its next ones away from it. Clocks may be years off, and one that does not
 * know the date counts as of this project's first year.
 */
const MAX_AHEAD_S = 10 * 365 * 86_400;
const FIRST_CLOCK_S = Date.UTC(2026, 0) / 1000;
/** What contradicts a word at the bound must pass where clocks are behind. */
const CONTRADICTION_ROOM_S = 3600;

/** What is wrong with the update; undefined: nothing. Short fixed texts, for counters. */
export function updateFault(update: MemberUpdate, wallMs: number): "status" | "number" | "ahead" | "text" | "list" | undefined {
  if (!STATUSES.has(update.status)) return "status";
  if (!isCount(update.incarnation) || !isCount(update.generation) || !isCount(update.healthScore)) return "number";
  if (isFarAhead(update, wallMs)) return "ahead";
  // Several clusters of a region are one membership: who may speak at all is decided by certificates and tokens.
  if (update.nodeId === "" || update.address === "" || update.clusterId === "") return "text";
  const { nodeId, address, clusterId, region, zone, version, accuser } = update;
  if (![nodeId, address, clusterId, region, zone, version, accuser].every(isShort)) return "text";
  const { protocolVersions, transports, roles, labels } = update;
  if (protocolVersions.length > MAX_LIST || transports.length > MAX_LIST || roles.length > MAX_LIST) return "list";
  if (!transports.every(isShort) || !roles.every(isShort)) return "list";
  const pairs = Object.entries(labels);
  if (pairs.length > MAX_LABELS || !pairs.every(([key, value]) => isShort(key) && isShort(value))) return "list";
  return undefined;
}

function isFarAhead({ status, incarnation, generation }: MemberUpdate, wallMs: number): boolean {
  const newestS = Math.max(wallMs / 1000, FIRST_CLOCK_S) + MAX_AHEAD_S;
  if (generation > newestS * GENERATIONS_PER_S) return true;
  return incarnation > newestS + (status === "alive" ? CONTRADICTION_ROOM_S : 0);
}

function isCount(n: number): boolean {
  return Number.isSafeInteger(n) && n >= 0 && n <= MAX_INCARNATION;
}

function isShort(text: string): boolean {
  return text.length <= MAX_TEXT;
}
