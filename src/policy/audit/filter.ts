/** Filters for audit records, and page tokens that stay valid while the log grows and is pruned. */
import { decodeBase64url, encodeBase64url } from "../../lib/base64url.ts";
import { invalid } from "../../lib/errors.ts";
import { fnv64, hashHex } from "../../lib/hash64.ts";
import type { AuditEvent, AuditKind } from "./record.ts";

/** A record matches if all fields match exactly. Empty texts and lists match everything. */
export interface AuditFilter {
  readonly kinds: readonly AuditKind[];
  readonly principal: string;
  readonly namespace: string;
  readonly reason: string;
  /** Undefined: from the beginning. */
  readonly fromWallMs: number | undefined;
  /** Exclusive; undefined: to the end. */
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

const VERSION = "1";
const PART = "\u0001";
const MAX_TOKEN_LENGTH = 128;
const ENCODER = new TextEncoder();
const DECODER = new TextDecoder();

function filterHash(filter: AuditFilter): string {
  const { kinds, principal, namespace, reason, fromWallMs, toWallMs } = filter;
  return hashHex(fnv64([kinds.toSorted().join(), principal, namespace, reason, fromWallMs ?? "", toWallMs ?? ""].join(PART)));
}

/** The token of the page of records with numbers below `before`. Newer records do not move the page. */
export function encodeAuditToken(before: number, filter: AuditFilter): string {
  return encodeBase64url(ENCODER.encode(`${VERSION} ${before} ${filterHash(filter)}`));
}

/** The number that a page stays below; undefined for an empty token. Throws `invalid_argument` for a text that is no token of this filter. */
export function decodeAuditToken(token: string, filter: AuditFilter): number | undefined {
  if (token === "") return undefined;
  const bytes = token.length > MAX_TOKEN_LENGTH ? undefined : decodeBase64url(token);
  const match = bytes === undefined ? undefined : /^1 (\d{1,15}) ([0-9a-f]{16})$/.exec(DECODER.decode(bytes));
  if (!match) throw invalid("page_token", "not a token this server gave; pass next_page_token unchanged or start again without one");
  if (match[2] !== filterHash(filter)) throw invalid("page_token", "it belongs to another filter; start again without a token");
  return Number(match[1]);
}
