/** The table of entry kinds: each row has the kind's DNS labels and the rules for its detail that the contract cannot express. */
// Only this function is imported, because the complete library consists of 47 files.
import parseSemver from "semver/functions/parse.js";
import { type DetailFields } from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { KIND, type Kind } from "../record/record.ts";
import type { FieldProblems } from "./names.ts";
import { quoted } from "./names.ts";
import { PATTERN_RULE, parsePattern } from "./topic-patterns.ts";

/** The source of an entry: a client (which cannot use reserved namespaces), this node itself, or a stored record. */
export type EntrySource = "client" | "node" | "record";

export interface KindRow {
  /** Labels for names of this kind in DNS (`_svc._tcp.<name>…`). DNS answers use the first label. Empty if the kind has no names in DNS. */
  readonly dnsLabels: readonly string[];
  /**
   * Adds the problems of a detail of this kind for which the contract has no rules. A word that this version does not know comes from another
   * version. Such a word is rejected in a client's entry, but in a record it is stored and passed on.
   */
  readonly check?: (detail: DetailFields, problems: FieldProblems, writer: EntrySource) => void;
}

export const KINDS: Readonly<Record<Kind, KindRow>> = {
  [KIND.SERVICE]: { dnsLabels: ["_svc"] },
  [KIND.FUNCTION]: { dnsLabels: ["_rpc", "_mpreg"], check: checkFunction },
  [KIND.TOPIC]: { dnsLabels: [], check: checkTopic },
  [KIND.QUEUE]: { dnsLabels: ["_queue"], check: checkQueue },
  [KIND.CACHE]: { dnsLabels: [], check: checkCache },
  [KIND.NODE]: { dnsLabels: [] },
};

/** The permitted roles of a cache and guarantees of a queue. Other programs compare these strings. */
export const CACHE_ROLES = ["primary", "replica", "coordinator", "synchronizer", "monitor", "edge"] as const;
export const DELIVERY_GUARANTEES = ["at-most-once", "at-least-once", "exactly-once", "fire-and-forget", "broadcast", "quorum"] as const;

/** The highest kind number. Kind numbers start at 1 and have no gaps. */
export const LAST_KIND = Math.max(...Object.values(KIND));

/** Returns the kind that has this number on the wire. Undefined for an unknown number. */
export function findKind(wire: number): Kind | undefined {
  return wire >= 1 && wire <= LAST_KIND && Number.isInteger(wire) ? (wire as Kind) : undefined;
}

function checkFunction(detail: DetailFields, problems: FieldProblems): void {
  if (detail.case !== "function") return;
  const { version } = detail.value;
  if (version !== "" && !isSemver(version)) problems.add("version", `${quoted(version)} must be a semantic version such as 1.4.0`);
}

/** Whether a string is a valid version in semver 2.0.0. Unlike the library, this function rejects a leading `v` and spaces. */
function isSemver(text: string): boolean {
  const first = text.charCodeAt(0);
  return first >= 48 && first <= 57 && text.trim() === text && parseSemver(text) !== null;
}

function checkTopic(detail: DetailFields, problems: FieldProblems, writer: EntrySource): void {
  if (detail.case !== "topic" || writer !== "client") return;
  detail.value.patterns.forEach((pattern, i) => {
    if (pattern !== "" && parsePattern(pattern) === undefined) problems.add(`patterns[${i}]`, `${quoted(pattern)} ${PATTERN_RULE}`);
  });
}

function checkQueue(detail: DetailFields, problems: FieldProblems, writer: EntrySource): void {
  if (detail.case !== "queue" || writer !== "client") return;
  detail.value.deliveryGuarantees.forEach((word, i) => {
    checkWord(word, DELIVERY_GUARANTEES, `delivery_guarantees[${i}]`, problems);
  });
  problems.unique(detail.value.deliveryGuarantees, "delivery_guarantees");
}

function checkCache(detail: DetailFields, problems: FieldProblems, writer: EntrySource): void {
  if (detail.case === "cache" && writer === "client") checkWord(detail.value.role, CACHE_ROLES, "role", problems);
}

function checkWord(word: string, known: readonly string[], field: string, problems: FieldProblems): void {
  if (word !== "" && !known.includes(word)) problems.add(field, `${quoted(word)} must be one of ${known.join(", ")}`);
}
