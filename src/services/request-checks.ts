/** Bounds of request fields that are neither names nor filters; test/services/discovery-rules.io.test.ts holds them equal to the contract. */
import type { Duration } from "@bufbuild/protobuf/wkt";
import type { Entry } from "../../gen/waymark/catalog/v1/entry_pb.js";
import type { Bounds } from "../catalog/entry/names.ts";
import { plainName } from "../discovery/dns-names.ts";
import { isKnownAge } from "../lib/duration.ts";
import { invalid, WaymarkError } from "../lib/errors.ts";
import { utf8Size } from "../lib/protowire.ts";
import type { RefusedAct } from "../policy/audit/refusals.ts";
import { type Caller, hasRole } from "../policy/identity/caller.ts";
import { durationMs, idOf } from "./discovery/filter.ts";

const MAX_LEASE_ID_LENGTH = 256;
const STALE_RETRY_MS = 1000;
const MAX_CURSOR_LENGTH = 65_536;
const DEFAULT_BOOKMARK_MS = 10_000;
const MIN_BOOKMARK_MS = 1000;

/** Empty, or at most 256 characters. */
export function checkLeaseId(id: string, field: string): void {
  checkLength(id, field, MAX_LEASE_ID_LENGTH);
}

/** 1 to 256 characters each. HOT: 200k leases/s, so a path is only built for what is wrong. */
export function checkRenewedIds(ids: readonly string[]): void {
  for (let i = 0; i < ids.length; i++) {
    const id = ids[i] ?? "";
    if (id === "") throw invalid(`lease_ids[${i}]`, "is empty");
    if (id.length > MAX_LEASE_ID_LENGTH) checkLeaseId(id, `lease_ids[${i}]`);
  }
}

/** Longest label of a DNS name (RFC 1035, 2.3.4). */
const MAX_LABEL_LENGTH = 63;

/** Throws `invalid_argument` for an alias that can be no name in DNS, and for two that are one there. Asked of what is registered: what is held stays. */
function checkNames(aliases: readonly string[], field: string): void {
  const known = new Map<string, number>();
  aliases.forEach((alias, i) => {
    const name = plainName(alias);
    if (!name.split(".").every((label) => label.length >= 1 && label.length <= MAX_LABEL_LENGTH))
      throw invalid(`${field}[${i}]`, `must have labels of 1 to ${MAX_LABEL_LENGTH} characters, with a dot between two`);
    const same = known.get(name);
    if (same !== undefined) throw invalid(`${field}[${i}]`, `is the same name in DNS as ${field}[${same}]`);
    known.set(name, i);
  });
}

/**
 * Throws `invalid_argument` where an alias can be no name in DNS, and `discovery_access_denied` where one is a single label and the caller no admin: such a
 * name stands above everybody's.
 */
export function checkAliases(
  { aliases, key }: Pick<Entry, "aliases" | "key">,
  field: string,
  caller: Caller,
  rules: { readonly isSingle: (alias: string) => boolean; readonly onRefused: (refusal: RefusedAct) => void },
): void {
  checkNames(aliases, field);
  const at = hasRole(caller, "mesh.admin") ? -1 : aliases.findIndex(rules.isSingle);
  if (at < 0) return;
  const message = `${field}[${at}]: an alias of one label needs the role mesh.admin`;
  const error = new WaymarkError("discovery_access_denied", message, { metadata: { role: "mesh.admin" } });
  rules.onRefused({ caller, action: "register", namespace: key?.namespace ?? "", reason: error.reason, detail: error.message });
  throw error;
}

/** Throws `invalid_argument` for what is too long for a cursor. */
export function checkCursor(cursor: string): void {
  checkLength(cursor, "cursor", MAX_CURSOR_LENGTH);
}

/** Time between two bookmarks of a watch. Throws `invalid_argument`. */
export function bookmarkMs(asked: Duration | undefined): number {
  const intervalMs = durationMs(asked, "bookmark_interval") ?? DEFAULT_BOOKMARK_MS;
  if (intervalMs < MIN_BOOKMARK_MS || intervalMs > DEFAULT_BOOKMARK_MS) throw invalid("bookmark_interval", "must be 1 s to 10 s");
  return intervalMs;
}

/** Throws `too_stale` when what is held may be older than the caller takes. */
export function checkAge(ageMs: number, maxStalenessMs: number | undefined): void {
  if (maxStalenessMs === undefined || ageMs <= maxStalenessMs) return;
  const message = isKnownAge(ageMs)
    ? `what this node holds may be ${ageMs} ms old, more than the ${maxStalenessMs} ms asked for`
    : `this node does not know yet how old what it holds is, and at most ${maxStalenessMs} ms were asked for`;
  throw new WaymarkError("too_stale", message, { retryMs: STALE_RETRY_MS });
}

/** Throws `invalid_argument` when a text has more than `max` characters (code points). */
export function checkLength(text: string, field: string, max: number): void {
  // A character has at most two code units, so short texts need no count.
  if (text.length > max && Array.from(text).length > max) throw invalid(field, `is longer than ${max} characters`);
}

/** Throws `invalid_argument` when a text has more than `max` bytes. */
export function checkBytes(text: string, field: string, max: number): void {
  // Three bytes a code unit at most.
  if (text.length * 3 > max && utf8Size(text) > max) throw invalid(field, `is longer than ${max} bytes`);
}

/** A viewer override is checked also where the server does not take it: what is wrong today must not be right tomorrow. */
export function checkViewer(viewer: { readonly clusterId: string; readonly tenantId: string } | undefined, bounds: Bounds): void {
  if (viewer === undefined) return;
  idOf(viewer.clusterId, "viewer.cluster_id", bounds);
  idOf(viewer.tenantId, "viewer.tenant_id", bounds);
}
