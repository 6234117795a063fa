/** Filters for audit records, and page tokens that remain valid while the log grows and is pruned. */
import { decodePageToken, encodePageToken, unreadableToken } from "../../catalog/query/query.ts";
import { textHash } from "../../lib/hash64.ts";
import { AUDIT_FIELDS, type AuditEvent, type AuditKind, type AuditOutcome, splitSubjects } from "./record.ts";

/** The fields that a record must have exactly as in the filter. */
const EXACT_FIELDS = ["principal", "tenant", "namespace", "action", "reason", "ticket"] as const satisfies readonly (keyof AuditEvent)[];

/** A record matches if all given fields match. An empty string or list matches everything. */
export interface AuditFilter extends Readonly<Record<(typeof EXACT_FIELDS)[number], string>> {
  readonly kinds: readonly AuditKind[];
  readonly outcomes: readonly AuditOutcome[];
  /** Subjects that a record must have, all of them. */
  readonly subjects: readonly string[];
  /** Part of any text of a record. The case of the letters A to Z is ignored. */
  readonly text: string;
  /** Undefined means the beginning of the log. */
  readonly fromWallMs: number | undefined;
  /** Exclusive. Undefined means the end of the log. */
  readonly toWallMs: number | undefined;
}

export const EVERY_AUDIT: AuditFilter = {
  kinds: [],
  outcomes: [],
  subjects: [],
  principal: "",
  tenant: "",
  namespace: "",
  action: "",
  reason: "",
  ticket: "",
  text: "",
  fromWallMs: undefined,
  toWallMs: undefined,
};

export function matchesAudit(event: AuditEvent, filter: AuditFilter): boolean {
  const { kinds, outcomes, subjects, fromWallMs, toWallMs } = filter;
  const text = foldCase(filter.text);
  return (
    (kinds.length === 0 || kinds.includes(event.kind)) &&
    (outcomes.length === 0 || outcomes.includes(event.outcome)) &&
    EXACT_FIELDS.every((field) => filter[field] === "" || filter[field] === event[field]) &&
    (fromWallMs === undefined || event.atWallMs >= fromWallMs) &&
    (toWallMs === undefined || event.atWallMs < toWallMs) &&
    (subjects.length === 0 || new Set(subjects).isSubsetOf(new Set(splitSubjects(event.subjects)))) &&
    (text === "" || AUDIT_FIELDS.some((field) => foldCase(event[field]).includes(text)))
  );
}

/** Converts only the letters A to Z, as SQLite does. */
function foldCase(text: string): string {
  return text.replaceAll(/[A-Z]+/g, (part) => part.toLowerCase());
}

/**
 * Returns texts that the canonical bytes of every matching record contain, so that most other records need not be parsed. `exact` is the longest of
 * several such texts. `folded` is in lower case.
 */
export function necessaryTexts(filter: AuditFilter): { readonly exact: string; readonly folded: string } {
  const { kinds, outcomes, subjects, text } = filter;
  const single = [kinds, outcomes].map((words) => (words.length === 1 ? (words[0] ?? "") : ""));
  const texts = [...single, ...subjects, ...EXACT_FIELDS.map((field) => filter[field])];
  return { exact: texts.reduce((longest, each) => (each.length > longest.length ? each : longest)), folded: foldCase(text) };
}

function filterHash(filter: AuditFilter): string {
  return textHash(`audit ${JSON.stringify(filter)}`);
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
