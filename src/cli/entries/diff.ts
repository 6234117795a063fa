/** What applying entries would change: the wanted entries against those the catalog holds. */
import { clone, type JsonValue, toJson } from "@bufbuild/protobuf";
import { type Entry, EntrySchema, HealthStatus, Scope } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { keyOf } from "./file.ts";

export type Action = "create" | "update" | "move" | "remove" | "unchanged";

export interface Change {
  readonly action: Action;
  /** The wanted entry; for a removal the held one. */
  readonly entry: Entry;
  /** Fields that differ, for an update. */
  readonly fields: readonly string[];
}

export interface DiffRules {
  /** Held entries that may be removed when they are not wanted. */
  readonly isOwned: (entry: Entry) => boolean;
  /** The node that takes over what is held alike at others; undefined when such entries stay where they are. */
  readonly movesTo: string | undefined;
}

/** Changes in key order. */
export function diffEntries(wanted: readonly Entry[], held: readonly Entry[], { isOwned, movesTo }: DiffRules): readonly Change[] {
  const heldByKey = new Map(held.map((entry) => [keyOf(entry), entry]));
  const wantedKeys = new Set(wanted.map(keyOf));
  const changes = wanted.map((entry): Change => {
    const before = heldByKey.get(keyOf(entry));
    if (before === undefined) return { action: "create", entry, fields: [] };
    const fields = differingFields(entry, before);
    if (fields.length > 0) return { action: "update", entry, fields };
    return { action: movesTo === undefined || before.nodeId === movesTo ? "unchanged" : "move", entry, fields };
  });
  for (const [key, entry] of heldByKey) {
    if (!wantedKeys.has(key) && isOwned(entry)) changes.push({ action: "remove", entry, fields: [] });
  }
  return changes.toSorted((a, b) => (keyOf(a.entry) < keyOf(b.entry) ? -1 : 1));
}

/** Stamped by the server, or not content. */
const STAMPED = ["key", "clusterId", "region", "nodeId", "tenantId", "registeredAt", "updatedAt", "load", "registeredByAdmin"];

function differingFields(wanted: Entry, held: Entry): readonly string[] {
  const [a, b] = [content(wanted), content(held)];
  // The server fills these in when they are not said.
  if (wanted.zone === "") b.delete("zone");
  if (wanted.ttl === undefined) b.delete("ttl");
  return [...new Set([...a.keys(), ...b.keys()])].filter((name) => a.get(name) !== b.get(name));
}

/** Field to canonical text, with the defaults the server stores written out. */
function content(entry: Entry): Map<string, string> {
  const full = clone(EntrySchema, entry);
  if (full.scope === Scope.UNSPECIFIED) full.scope = Scope.ZONE;
  if (full.health === HealthStatus.UNSPECIFIED || full.health === HealthStatus.ORPHANED) full.health = HealthStatus.HEALTHY;
  for (const target of full.targets) if (target.protocol === "") target.protocol = "tcp";
  full.metadata = Object.fromEntries(Object.entries(full.metadata).toSorted(([a], [b]) => (a < b ? -1 : 1)));
  const json: JsonValue = toJson(EntrySchema, full);
  const fields = Object.entries(typeof json === "object" && json !== null ? json : {}).map(
    ([name, value]) => [name, JSON.stringify(value)] as const,
  );
  // An empty detail says no more than the key's kind.
  return new Map(fields.filter(([name, value]) => !STAMPED.includes(name) && value !== "{}"));
}
