/** Filters for audit records, and page tokens that remain valid while the log grows and is pruned. */
import { decodePageToken, encodePageToken, unreadableToken } from "../../catalog/query/query.ts";
import { textHash } from "../../lib/hash64.ts";
import type { AuditEvent, AuditKind } from "./record.ts";

/** A record matches if all given fields match exactly. An empty string or list matches everything. */
export interface AuditFilter {
  readonly kinds: readonly AuditKind[];
  readonly principal: string;
  readonly namespace: string;
  readonly reason: string;
  /** Undefined means the beginning of the log. */
  readonly fromWallMs: number | undefined;
  /** Exclusive. Undefined means the end of the log. */
  readonly toWallMs: number | undefined;
}

export const EVERY_AUDIT: AuditFilter = {
  kinds: [],
  principal: "",
  namespace: "",
  reason: "",
  fromWallMs: undefined,
  toWallMs: undefined,
};

export function matchesAudit(event: AuditEvent, filter: AuditFilter): boolean {
  return (
    (filter.kinds.length === 0 || filter.kinds.includes(event.kind)) &&
    (filter.principal === "" || filter.principal === event.principal) &&
    (filter.namespace === "" || filter.namespace === event.namespace) &&
    (filter.reason === "" || filter.reason === event.reason) &&
    (filter.fromWallMs === undefined || event.atWallMs >= filter.fromWallMs) &&
    (filter.toWallMs === undefined || event.atWallMs < filter.toWallMs)
  );
}

const PART = "\u0001";

function filterHash(filter: AuditFilter): string {
  const { kinds, principal, namespace, reason, fromWallMs, toWallMs } = filter;
  return textHash(["audit", kinds.toSorted().join(), principal, namespace, reason, fromWallMs ?? "", toWallMs ?? ""].join(PART));
}

/** Returns the token for the page of records with numbers below `before`. Newer records do not shift the page. */
export function encodeAuditToken(before: number, filter: AuditFilter): string {
  return encodePageToken(`${before}`, filterHash(filter));
}

/**
 * Returns the number below which the records of a page must be. Undefined for an empty token. Throws `invalid_argument` for a string that is not a
 * token of this filter.
 */
export function decodeAuditToken(token: string, filter: AuditFilter): number | undefined {
  if (token === "") return undefined;
  const before = decodePageToken(token, filterHash(filter));
  if (!/^\d{1,15}$/.test(before)) throw unreadableToken();
  return Number(before);
}
