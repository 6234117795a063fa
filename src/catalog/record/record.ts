/**
 * The newest statement by one origin about one key: a live entry or a tombstone. A record is plain mutable state of the replica; all other code only
 * reads it. The bytes of entries are in the slab, and the values that filters use are in shared `SharedTraits`, so that a record costs only one small
 * object.
 */
import { KIND as KIND_NUMBERS } from "../../../gen/waymark/catalog/v1/entry_kinds.ts";
import type { Scope } from "../entry/scope.ts";
import type { MaintenanceOverrides } from "./maintenance.ts";

/** `namespace \0 name \0 kind digit \0 instance \0 cluster`: code-unit order is the catalog's key order. */
export type KeyText = string & { readonly __brand: "KeyText" };

/** The kinds and their numbers on the wire. */
export const KIND = KIND_NUMBERS;
export type Kind = (typeof KIND)[keyof typeof KIND];

/** The health values and their numbers on the wire. ORPHANED is never stored: it is the view of a record whose node is unreachable. */
export const HEALTH = { UNSET: 0, HEALTHY: 1, DEGRADED: 2, CRITICAL: 3, MAINTENANCE: 4, ORPHANED: 5 } as const;
export type Health = (typeof HEALTH)[keyof typeof HEALTH];

export interface EntryKey {
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
  readonly instanceId: string;
  readonly clusterId: string;
}

/** Values that many entries share. Equal values are stored only once. */
export interface SharedTraits {
  readonly tags: readonly string[];
  readonly capabilities: readonly string[];
  readonly resources: readonly string[];
  /** The transports and named ports of the entry's targets, from `portWords`; `NO_PORTS` itself if it has no targets. */
  readonly ports: readonly string[];
  readonly clusterId: string;
  readonly region: string;
  readonly zone: string;
  readonly nodeId: string;
  readonly tenantId: string;
  /** For an entry with aliases: whether its principal had the role mesh.admin when it was registered. */
  readonly registeredByAdmin: boolean;
  /** The version of a FUNCTION entry. Empty for a FUNCTION without a version and for other kinds. */
  readonly version: string;
}

/** The kinds of record, by body. `expired` ends records of its own node; `unregistered` hides older records of any origin. */
export const BODY = { ENTRY: 0, EXPIRED: 1, UNREGISTERED: 2 } as const;
export type BodyKind = (typeof BODY)[keyof typeof BODY];

/** The state of an origin on this node (semantics.md, Orphans). */
export type OriginStatus = "live" | "orphaned" | "hidden";

/** One generation of a node. `id` is `<node_id>/<generation>`. */
export interface OriginRef {
  readonly id: string;
  readonly nodeId: string;
  readonly generation: number;
  readonly life: OriginStatus;
  /** The cluster of the origin's node. Empty or absent while the cluster is unknown. */
  readonly clusterId?: string;
  /** The origin's records up to this seq remain hidden (`lost-marks.ts`). Absent or 0 if no records are hidden. */
  readonly markedSeq?: number;
}

export interface CatalogRecord {
  readonly key: KeyText;
  readonly namespace: string;
  readonly name: string;
  readonly kind: Kind;
  readonly origin: OriginRef;
  /** The number that the origin assigned to this change: 1, 2, 3, …, each used once. */
  readonly seq: number;
  /** Hybrid logical clock stamp: wall ms × 2048 + counter. */
  readonly hlc: number;
  /** Seq at which this origin put the key after the key had been absent. */
  readonly firstSeq: number;
  /** Seq of the last change of a filterable field. */
  readonly filterSeq: number;
  /** This node's revision of the last touch of this record. 0 while it is staged. */
  readonly revision: number;
  readonly body: BodyKind;
  readonly scope: Scope;
  /** The widest scope that the key has had since its last tombstone was collected. */
  readonly reach: Scope;
  /** The registered health. `viewHealth` returns the health that readers see. */
  readonly health: Health;
  readonly traits: SharedTraits;
  /** The principal that registered the entry. Empty for anonymous. */
  readonly principal: string;
  /**
   * Stamp of the `unregistered` tombstone of this origin that this record replaced. In a tombstone, the stamp of the newest such
   * tombstone that its origin knew. Undefined if there is no such tombstone.
   */
  readonly unregisteredHlc?: number | undefined;
  /** The newest maintenance overrides of the key that this record's origin knew. */
  readonly orders?: MaintenanceOverrides | undefined;
  /** Address at which the slab stores the entry's bytes. Meaningless for a tombstone. */
  readonly at: number;
  /** Encoded size in bytes; 0 for a tombstone. */
  readonly sizeBytes: number;
  /** Size of the content at the start of the bytes. Load and times follow the content. */
  readonly contentBytes: number;
}

/**
 * Returns the health that readers see: the registered health, or ORPHANED while the origin is unreachable. An entry in maintenance
 * remains in maintenance (semantics.md, Maintenance).
 */
export function viewHealth({ health, origin }: Pick<CatalogRecord, "health"> & { readonly origin: Pick<OriginRef, "life"> }): Health {
  return shownWhile(origin.life, health);
}

/** Like `viewHealth`, but for an entry whose health is not stored in a record. */
export function shownWhile(life: OriginStatus, health: Health): Health {
  return life === "live" || health === HEALTH.MAINTENANCE ? health : HEALTH.ORPHANED;
}

/** Separates the parts of a key; no part contains it. */
const SEPARATOR = "\0";

export function keyText(key: EntryKey): KeyText {
  // This is the only cast to KeyText: the parts were parsed in names.ts and cannot contain the separator. `join` makes one flat string of 48 bytes. A
  // template literal would keep a tree of string pieces in memory, which costs 217 more bytes per key (measured at 500k keys).
  return [key.namespace, key.name, key.kind, key.instanceId, key.clusterId].join(SEPARATOR) as KeyText;
}

/** Splits a key text into its parts. This is the reverse of `keyText`. */
export function keyParts(key: KeyText): EntryKey {
  const [namespace, name, kind, instanceId, clusterId] = key.split(SEPARATOR);
  return {
    namespace: namespace ?? "",
    name: name ?? "",
    kind: Number(kind) as Kind, // A KeyText is always built from a parsed kind.
    instanceId: instanceId ?? "",
    clusterId: clusterId ?? "",
  };
}

/**
 * Returns the readable form of a key: `namespace/name/instance`. HOT: runs for each written entry (audit); `keyParts` would cost three
 * times as much.
 */
export function keyLabel(key: KeyText): string {
  const name = key.indexOf(SEPARATOR);
  const kind = key.indexOf(SEPARATOR, name + 1);
  const instance = key.indexOf(SEPARATOR, kind + 1);
  return `${namespaceOfKey(key)}/${key.slice(name + 1, kind)}/${key.slice(instance + 1, key.indexOf(SEPARATOR, instance + 1))}`;
}

export function namespaceOfKey(key: KeyText): string {
  return key.slice(0, key.indexOf(SEPARATOR));
}

/** Returns the cluster of a key. HOT: runs several times for each change of a summary; `keyParts` costs five times as much. */
export function clusterOfKey(key: KeyText): string {
  return key.slice(key.lastIndexOf(SEPARATOR) + 1);
}

/**
 * Returns the name part of a key: `namespace \0 name \0 kind`, which is a prefix of every key with this name. HOT: runs for each change on a
 * resolver.
 */
export function nameOfKey(key: KeyText): string {
  return key.slice(0, key.lastIndexOf(SEPARATOR, key.lastIndexOf(SEPARATOR) - 1));
}

/**
 * Whether the cluster in a key is this cluster. HOT: runs at least once for each record that is put, removed or received (benchmark `versions`, keys
 * that come and go).
 */
export function isKeyOf(clusterId: string, key: KeyText): boolean {
  return key.endsWith(clusterId) && key[key.length - clusterId.length - 1] === SEPARATOR;
}

/** Returns the delta id `<node_id>/<generation>/<seq>`, which is the same on every node. */
export function deltaId(record: Pick<CatalogRecord, "origin" | "seq">): string {
  return `${record.origin.id}/${record.seq}`;
}
