/** The kinds of entry, one row each: what a kind is called, which detail it has, where DNS puts it, what its detail must obey. */
import { parse as parseSemver } from "semver";
import { KIND, type Kind } from "../record/record.ts";
import type { DetailFields } from "./fields.ts";
import { CHARS, consistsOf, nameRule, quoted } from "./names.ts";
import type { Problems } from "./problems.ts";
import { PATTERN_RULE, parsePattern } from "./topic-patterns.ts";

export interface KindRow {
  /** What people call it, as in query filters and output. */
  readonly text: string;
  /** The case of `Entry.detail` that goes with it. */
  readonly detail: DetailFields["case"];
  /** Label of its names in DNS (`_svc._tcp.<name>…`); undefined when it has none. */
  readonly dnsLabel: string | undefined;
  /** Adds what is wrong with a detail of this kind. `path` ends in a dot. */
  readonly check: (detail: DetailFields, path: string, problems: Problems) => void;
}

const MAX_VERSION_LENGTH = 128;
const RATIO = { min: 0, max: 1 };
const LATENCY_MS = { min: 0, max: 1e9 };
const LATITUDE = { min: -90, max: 90 };
const LONGITUDE = { min: -180, max: 180 };

export const KINDS = {
  [KIND.SERVICE]: { text: "service", detail: "service", dnsLabel: "_svc", check: () => {} },
  [KIND.FUNCTION]: { text: "function", detail: "function", dnsLabel: "_rpc", check: checkFunction },
  [KIND.TOPIC]: { text: "topic", detail: "topic", dnsLabel: undefined, check: checkTopic },
  [KIND.QUEUE]: { text: "queue", detail: "queue", dnsLabel: "_queue", check: checkQueue },
  [KIND.CACHE]: { text: "cache", detail: "cache", dnsLabel: undefined, check: checkCache },
  [KIND.NODE]: { text: "node", detail: "node", dnsLabel: undefined, check: checkNode },
} as const satisfies Record<Kind, KindRow>;

const KIND_OF_DETAIL = {
  service: KIND.SERVICE,
  function: KIND.FUNCTION,
  topic: KIND.TOPIC,
  queue: KIND.QUEUE,
  cache: KIND.CACHE,
  node: KIND.NODE,
} as const satisfies Record<DetailFields["case"], Kind>;

export function kindOfDetail(detail: DetailFields["case"]): Kind {
  return KIND_OF_DETAIL[detail];
}

/** What a cache may say that it is, and what a queue may promise: the words that other programs look for. */
export const CACHE_ROLES = ["primary", "replica", "coordinator", "synchronizer", "monitor", "edge"] as const;
export const DELIVERY_GUARANTEES = ["at-most-once", "at-least-once", "exactly-once", "fire-and-forget", "broadcast", "quorum"] as const;

/**
 * Adds what a client may not say in a detail, though a record may: a word that this version does not know comes from another one, and is
 * held and passed on. `path` ends in a dot.
 */
export function checkWords(detail: DetailFields, path: string, problems: Problems): void {
  switch (detail.case) {
    case "cache":
      checkWord(detail.value.role, CACHE_ROLES, `${path}role`, problems);
      return;
    case "queue":
      detail.value.deliveryGuarantees.forEach((word, i) => {
        checkWord(word, DELIVERY_GUARANTEES, `${path}delivery_guarantees[${i}]`, problems);
      });
      problems.unique(detail.value.deliveryGuarantees, path, "delivery_guarantees");
      return;
    case "topic":
      detail.value.patterns.forEach((pattern, i) => {
        if (pattern !== "" && parsePattern(pattern) === undefined)
          problems.add(`${path}patterns[${i}]`, `${quoted(pattern)} ${PATTERN_RULE}`);
      });
      return;
    case "service":
    case "function":
    case "node":
  }
}

function checkWord(word: string, known: readonly string[], field: string, problems: Problems): void {
  if (word !== "" && !known.includes(word)) problems.add(field, `${quoted(word)} is none of ${known.join(", ")}`);
}

/** The highest number of a kind. They are dense from 1, and `KINDS satisfies Record<Kind, …>` keeps the table complete. */
export const LAST_KIND = Math.max(...Object.values(KIND));

/** The kind of a wire number, or undefined for a number this version does not know. */
export function findKind(wire: number): Kind | undefined {
  return wire >= 1 && wire <= LAST_KIND && Number.isInteger(wire) ? (wire as Kind) : undefined;
}

function checkFunction(detail: DetailFields, path: string, problems: Problems): void {
  if (detail.case !== "function") return;
  const { functionId, version, specDigest, resources } = detail.value;
  problems.optionalName(functionId, path, "function_id");
  if (version !== "" && (version.length > MAX_VERSION_LENGTH || !isSemver(version))) {
    problems.add(`${path}version`, `${quoted(version)} must be a semantic version such as 1.4.0, at most ${MAX_VERSION_LENGTH} characters`);
  }
  problems.optionalName(specDigest, path, "spec_digest");
  problems.names(resources, path, "resources");
}

/** Semver 2.0.0 to the letter: the library forgives a leading `v` and spaces, we do not. */
function isSemver(text: string): boolean {
  const first = text.charCodeAt(0);
  return first >= 48 && first <= 57 && text.trim() === text && parseSemver(text) !== null;
}

function checkTopic(detail: DetailFields, path: string, problems: Problems): void {
  if (detail.case !== "topic") return;
  const { patterns } = detail.value;
  problems.count(patterns.length, problems.bounds.maxListItems, path, "patterns");
  patterns.forEach((pattern, i) => {
    if (pattern === "") problems.add(`${path}patterns[${i}]`, "is empty");
    else problems.text(pattern, problems.bounds.maxPatternLength, path, `patterns[${i}]`);
  });
}

function checkQueue(detail: DetailFields, path: string, problems: Problems): void {
  if (detail.case !== "queue") return;
  problems.names(detail.value.deliveryGuarantees, path, "delivery_guarantees");
}

function checkCache(detail: DetailFields, path: string, problems: Problems): void {
  if (detail.case !== "cache") return;
  const { role, latitude, longitude, modes, region, utilization, latencyMs } = detail.value;
  problems.optionalName(role, path, "role");
  problems.range(latitude, LATITUDE, path, "latitude");
  problems.range(longitude, LONGITUDE, path, "longitude");
  problems.names(modes, path, "modes");
  const { maxIdLength } = problems.bounds;
  if (!consistsOf(region, CHARS.NAME, maxIdLength)) problems.add(`${path}region`, nameRule(region, maxIdLength));
  problems.range(utilization, RATIO, path, "utilization");
  problems.range(latencyMs, LATENCY_MS, path, "latency_ms");
}

function checkNode(detail: DetailFields, path: string, problems: Problems): void {
  if (detail.case !== "node") return;
  const { advertisedUrls, transports, protocolVersions, labels } = detail.value;
  const { maxListItems, maxUrlLength, maxEntryBytes } = problems.bounds;
  problems.count(advertisedUrls.length, maxListItems, path, "advertised_urls");
  advertisedUrls.forEach((url, i) => {
    problems.text(url, maxUrlLength, path, `advertised_urls[${i}]`);
  });
  problems.count(transports.length, maxListItems, path, "transports");
  transports.forEach((transport, i) => {
    problems.text(transport, maxEntryBytes, path, `transports[${i}]`);
  });
  problems.count(protocolVersions.length, maxListItems, path, "protocol_versions");
  const labelKeys = Object.keys(labels);
  problems.count(labelKeys.length, maxListItems, path, "labels");
  for (const key of labelKeys) {
    problems.text(key, maxEntryBytes, path, `labels[${quoted(key)}]`);
    problems.text(labels[key] ?? "", maxEntryBytes, path, `labels[${quoted(key)}]`);
  }
}
