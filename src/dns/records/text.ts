/** TXT records: facts of the entries. */
import { SCOPE_NAMES } from "../../catalog/entry/scope.ts";
import type { EntryView } from "../../catalog/entry/view.ts";
import type { Subject } from "../plan/subject.ts";
import type { RecordContext, RecordOf } from "./record.ts";
import { setTtlSeconds } from "./ttl.ts";

/** A record for each entry whose facts differ. */
export function textRecords(subject: Subject, context: RecordContext): RecordOf<"TXT">[][] {
  if (subject.kind !== "entries") return [];
  const ttl = setTtlSeconds(subject.entries, context.settings);
  const unique = new Map<string, RecordOf<"TXT">>();
  for (const entry of subject.entries) {
    const strings = entryStrings(entry);
    const identity = strings.join("\0");
    if (!unique.has(identity)) unique.set(identity, { type: "TXT", name: context.owner, ttlSeconds: ttl, data: { strings } });
  }
  return [[...unique.values()]];
}

const MAX_STRING_BYTES = 255;

/** The strings of an entry's TXT record, each at most 255 bytes. Lists are split between items, and empty facts are left out. */
function entryStrings(entry: EntryView): string[] {
  return [
    ...listStrings("namespace", [entry.key.namespace]),
    ...listStrings("scope", [SCOPE_NAMES[entry.scope]]),
    ...listStrings("tags", entry.tags),
    ...listStrings("cluster_id", [entry.key.clusterId]),
    ...listStrings("node_id", [entry.nodeId]),
    ...listStrings("spec_digest", entry.detail.case === "function" ? [entry.detail.value.specDigest] : []),
    ...listStrings("capabilities", entry.capabilities),
  ];
}

/** `key=a,b,c` in as few strings as it takes. An item is at most 128 characters, so one always fits. */
function listStrings(key: string, items: readonly string[]): string[] {
  const strings: string[] = [];
  let parts: string[] = [];
  let length = 0;
  // Joined, because a text that grows by `+=` is stored as all its pieces, at several times its size.
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
