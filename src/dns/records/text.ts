/** TXT records with the attributes of entries. */
import { SCOPE_NAMES } from "../../catalog/entry/scope.ts";
import type { EntryView, LargeFields } from "../../catalog/entry/view.ts";
import type { DnsSubject } from "../subject/subject.ts";
import { areEntriesCut } from "./best-entries.ts";
import type { RecordContext, RecordOf } from "./record.ts";
import { setTtlSeconds } from "./record.ts";

/** Maximum number of records per RRset. It equals the maximum number of names in a list. */
const MAX_TEXTS = 500;
/**
 * Maximum total number of characters in the TXT records of an RRset, several times the largest response (65,535 bytes). Building more records would
 * only delay other clients.
 */
const MAX_TEXT_CHARS = 1024 * 1024;

/** Returns one record for each distinct set of attributes, within the bounds above. */
export function textRecords(subject: DnsSubject, context: RecordContext): RecordOf<"TXT">[][] {
  if (subject.kind !== "entries" || subject.isCluster === true) return [];
  const ttl = setTtlSeconds(subject.entries, context.settings);
  return [textsOf(subject.entries).texts.map((strings) => ({ type: "TXT", name: context.owner, ttlSeconds: ttl, data: { strings } }))];
}

/** Returns whether some records were omitted because of these bounds. */
export function areTextsCut(subject: DnsSubject): boolean {
  return areEntriesCut(subject) || (subject.kind === "entries" && subject.isCluster !== true && textsOf(subject.entries).isCut);
}

function textsOf(entries: readonly EntryView[]) {
  const unique = new Map<string, readonly string[]>();
  let chars = 0;
  for (const entry of entries) {
    if (unique.size === MAX_TEXTS || chars >= MAX_TEXT_CHARS) return { texts: [...unique.values()], isCut: true };
    const strings = entryStrings(entry);
    // The key is JSON because metadata values can contain any character, so no separator would be unique.
    const identity = JSON.stringify(strings);
    chars += identity.length;
    if (!unique.has(identity)) unique.set(identity, strings);
  }
  return { texts: [...unique.values()], isCut: false };
}

const MAX_STRING_BYTES = 255;
const UTF8 = new TextEncoder();

/** Returns the strings of an entry's TXT record, each at most 255 bytes. Lists are split between items, and empty attributes are left out. */
function entryStrings(entry: EntryView): string[] {
  const detail = entry.read("detail");
  const facts = [
    ...listStrings("namespace", [entry.key.namespace]),
    ...listStrings("scope", [SCOPE_NAMES[entry.scope]]),
    ...listStrings("tags", entry.read("tags")),
    ...listStrings("cluster_id", [entry.key.clusterId]),
    ...listStrings("node_id", [entry.nodeId]),
    ...listStrings("spec_digest", detail.case === "function" ? [detail.value.specDigest] : []),
    ...listStrings("capabilities", entry.read("capabilities")),
  ];
  return [...facts, ...metadataStrings(entry.read("metadata"))];
}

/** Keys of attributes. Keys are case-insensitive (RFC 6763, 6.4). */
const FACT_KEYS: ReadonlySet<string> = new Set(["namespace", "scope", "tags", "cluster_id", "node_id", "spec_digest", "capabilities"]);

/** Returns `key=value` for each pair that fits into a string, ordered by key. Omits metadata whose key is the name of an attribute. */
function metadataStrings(metadata: LargeFields["metadata"]): string[] {
  return Object.entries(metadata)
    .filter(([key]) => !FACT_KEYS.has(key.toLowerCase()))
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${value}`)
    .filter((text) => text.length <= MAX_STRING_BYTES && UTF8.encode(text).length <= MAX_STRING_BYTES);
}

/** Returns `key=a,b,c` in as few strings as possible. An item has at most 128 characters, so each item fits into a string. */
function listStrings(key: string, items: readonly string[]): string[] {
  const strings: string[] = [];
  let parts: string[] = [];
  let length = 0;
  // The pieces are joined because V8 stores a string built with `+=` as separate pieces, which use several times the memory.
  const finish = (): void => {
    if (parts.length > 0) strings.push(parts.join(","));
    parts = [];
  };
  for (const item of items) {
    if (item === "") continue;
    if (parts.length > 0 && length + 1 + item.length > MAX_STRING_BYTES) finish();
    length = 1 + item.length + (parts.length === 0 ? key.length : length);
    parts.push(parts.length === 0 ? `${key}=${item}` : item);
  }
  finish();
  return strings;
}
