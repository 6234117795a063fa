/** The kinds of entry, one row each: where DNS puts a kind, and what its detail must obey that the contract's rules cannot say. */
import { parse as parseSemver } from "semver";
import { type DetailFields } from "../../../gen/waymark/catalog/v1/entry_codec.ts";
import { KIND, type Kind } from "../record/record.ts";
import { quoted } from "./names.ts";
import type { Problems } from "./problems.ts";
import { PATTERN_RULE, parsePattern } from "./topic-patterns.ts";

/** Who wrote the entry: a client (reserved namespaces refused), this node itself, or a record that was stamped before. */
export type Writer = "client" | "node" | "record";

export interface KindRow {
  /** Labels of its names in DNS (`_svc._tcp.<name>…`), the one that answers use first; none when it has no names there. */
  readonly dnsLabels: readonly string[];
  /**
   * Adds what is wrong with a detail of this kind beside the contract's rules. A word that this version does not know comes from another
   * one: a client may not say it, a record may, and is held and passed on.
   */
  readonly check?: (detail: DetailFields, problems: Problems, writer: Writer) => void;
}

export const KINDS: Readonly<Record<Kind, KindRow>> = {
  [KIND.SERVICE]: { dnsLabels: ["_svc"] },
  [KIND.FUNCTION]: { dnsLabels: ["_rpc", "_mpreg"], check: checkFunction },
  [KIND.TOPIC]: { dnsLabels: [], check: checkTopic },
  [KIND.QUEUE]: { dnsLabels: ["_queue"], check: checkQueue },
  [KIND.CACHE]: { dnsLabels: [], check: checkCache },
  [KIND.NODE]: { dnsLabels: [] },
};

/** What a cache may say that it is, and what a queue may promise: the words that other programs look for. */
export const CACHE_ROLES = ["primary", "replica", "coordinator", "synchronizer", "monitor", "edge"] as const;
export const DELIVERY_GUARANTEES = ["at-most-once", "at-least-once", "exactly-once", "fire-and-forget", "broadcast", "quorum"] as const;

/** The highest number of a kind. They are dense from 1. */
export const LAST_KIND = Math.max(...Object.values(KIND));

/** The kind of a wire number, or undefined for a number this version does not know. */
export function findKind(wire: number): Kind | undefined {
  return wire >= 1 && wire <= LAST_KIND && Number.isInteger(wire) ? (wire as Kind) : undefined;
}

function checkFunction(detail: DetailFields, problems: Problems): void {
  if (detail.case !== "function") return;
  const { version } = detail.value;
  if (version !== "" && !isSemver(version)) problems.add("version", `${quoted(version)} must be a semantic version such as 1.4.0`);
}

/** Semver 2.0.0 to the letter: the library forgives a leading `v` and spaces, we do not. */
function isSemver(text: string): boolean {
  const first = text.charCodeAt(0);
  return first >= 48 && first <= 57 && text.trim() === text && parseSemver(text) !== null;
}

function checkTopic(detail: DetailFields, problems: Problems, writer: Writer): void {
  if (detail.case !== "topic" || writer !== "client") return;
  detail.value.patterns.forEach((pattern, i) => {
    if (pattern !== "" && parsePattern(pattern) === undefined) problems.add(`patterns[${i}]`, `${quoted(pattern)} ${PATTERN_RULE}`);
  });
}

function checkQueue(detail: DetailFields, problems: Problems, writer: Writer): void {
  if (detail.case !== "queue" || writer !== "client") return;
  detail.value.deliveryGuarantees.forEach((word, i) => {
    checkWord(word, DELIVERY_GUARANTEES, `delivery_guarantees[${i}]`, problems);
  });
  problems.unique(detail.value.deliveryGuarantees, "delivery_guarantees");
}

function checkCache(detail: DetailFields, problems: Problems, writer: Writer): void {
  if (detail.case === "cache" && writer === "client") checkWord(detail.value.role, CACHE_ROLES, "role", problems);
}

function checkWord(word: string, known: readonly string[], field: string, problems: Problems): void {
  if (word !== "" && !known.includes(word)) problems.add(field, `${quoted(word)} is none of ${known.join(", ")}`);
}
