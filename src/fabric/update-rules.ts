/** Which updates of strangers are taken at all: everything they can say is bounded here. */
import type { MemberUpdate } from "./messages.ts";
import { MAX_INCARNATION } from "./self.ts";

const MAX_TEXT = 256;
const MAX_LIST = 16;
const MAX_LABELS = 64;
const STATUSES: ReadonlySet<string> = new Set(["alive", "suspect", "left", "dead"]);

/** What is wrong with the update; undefined: nothing. Short fixed texts, for counters. */
export function updateFault(update: MemberUpdate): "status" | "number" | "text" | "list" | undefined {
  if (!STATUSES.has(update.status)) return "status";
  if (!isCount(update.incarnation) || !isCount(update.generation) || !isCount(update.healthScore)) return "number";
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

function isCount(n: number): boolean {
  return Number.isSafeInteger(n) && n >= 0 && n <= MAX_INCARNATION;
}

function isShort(text: string): boolean {
  return text.length <= MAX_TEXT;
}
