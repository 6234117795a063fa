/**
 * One origin's newest word on one key: a live entry or a tombstone. Plain mutable state of the replica; whoever else
 * holds a reference only reads. Entry bytes live in the slab, filterable sets in shared `Traits`, so that a record
 * costs one small object.
 */
import { KIND as KIND_NUMBERS } from "../../../gen/waymark/catalog/v1/entry_kinds.ts";
import type { Scope } from "../entry/scope.ts";

/** `namespace \0 name \0 kind digit \0 instance \0 cluster`: code-unit order is the catalog's key order. */
export type KeyText = string & { readonly __brand: "KeyText" };

/** Kinds as on the wire: those of the contract. */
export const KIND = KIND_NUMBERS;
export type Kind = (typeof KIND)[keyof typeof KIND];

/** Health as on the wire. ORPHANED is never stored: it is what a view of an orphaned origin's record says. */
export const HEALTH = { UNSET: 0, HEALTHY: 1, DEGRADED: 2, CRITICAL: 3, MAINTENANCE: 4, ORPHANED: 5 } as const;
export type Health = (typeof HEALTH)[keyof typeof HEALTH];

export interface EntryKey {
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
  readonly instanceId: string;
  readonly clusterId: string;
}

/** What many entries have in common, held once: interned by content. */
export interface Traits {
  readonly tags: readonly string[];
  readonly capabilities: readonly string[];
  readonly resources: readonly string[];
  /** Transports and named ports of its targets, as `portWords` has them. */
  readonly ports: readonly string[];
  readonly clusterId: string;
  readonly region: string;
  readonly zone: string;
  readonly nodeId: string;
  readonly tenantId: string;
  /** Of an entry with aliases: whoever registered it had the role mesh.admin. */
  readonly registeredByAdmin: boolean;
  /** Of a FUNCTION; empty when it has none, and for the other kinds. */
  readonly version: string;
}

/** What a record says of its key. `expired` ends what its own node said; `unregistered` hides older ones of any origin. */
export const BODY = { ENTRY: 0, EXPIRED: 1, UNREGISTERED: 2 } as const;
export type Body = (typeof BODY)[keyof typeof BODY];

/** Life of an origin as this node knows it (semantics.md, Orphans). */
export type OriginLife = "live" | "orphaned" | "hidden";

/** A node in one generation; `id` is `<node_id>/<generation>`. */
export interface OriginRef {
  readonly id: string;
  readonly nodeId: string;
  readonly generation: number;
  readonly life: OriginLife;
  /** Where it is at home; empty or absent while unknown. */
  readonly clusterId?: string;
  /** What it wrote up to here stays hidden (`lost-marks.ts`); absent or 0: nothing. */
  readonly markedSeq?: number;
}

export interface CatalogRecord {
  readonly key: KeyText;
  readonly namespace: string;
  readonly name: string;
  readonly kind: Kind;
  readonly origin: OriginRef;
  /** The origin's number of this change; 1, 2, 3, … never used twice. */
  readonly seq: number;
  /** Hybrid logical clock stamp: wall ms × 2048 + counter. */
  readonly hlc: number;
  /** Seq at which this origin put the key after it had been absent. */
  readonly firstSeq: number;
  /** Seq at which a filterable field last changed. */
  readonly filterSeq: number;
  /** This node's number of the last touch of this record; 0 while staged. */
  readonly revision: number;
  readonly body: Body;
  readonly scope: Scope;
  /** Widest scope the key was published under since its last collected tombstone. */
  readonly reach: Scope;
  /** As registered; see `viewHealth` for what readers see. */
  readonly health: Health;
  readonly traits: Traits;
  /** Who registered it; empty for anonymous. */
  readonly principal: string;
  /** Stamp of the `unregistered` tombstone of this origin that came before this record, of an end the newest that it knew of; undefined: none. */
  readonly unregisteredHlc?: number | undefined;
  /** Address of the entry's bytes in the slab; meaningless for a tombstone. */
  readonly at: number;
  /** Encoded size in bytes; 0 for a tombstone. */
  readonly sizeBytes: number;
  /** The first this many bytes are content; load and times follow and do not count as content. */
  readonly contentBytes: number;
}

/** What readers see: the registered health, or ORPHANED while the origin is away. */
export function viewHealth(record: Pick<CatalogRecord, "health"> & { readonly origin: Pick<OriginRef, "life"> }): Health {
  return record.origin.life === "live" ? record.health : HEALTH.ORPHANED;
}

/** Between the parts of a key text; no part has it. */
const SEPARATOR = "\0";

export function keyText(key: EntryKey): KeyText {
  // The only cast to KeyText: the parts were parsed in names.ts and cannot contain the separator. `join` makes one flat
  // string of 48 bytes; a template keeps a tree of pieces alive in the map, 217 bytes more a key (measured at 500k keys).
  return [key.namespace, key.name, key.kind, key.instanceId, key.clusterId].join(SEPARATOR) as KeyText;
}

/** The parts of a key text; the reverse of `keyText`. */
export function keyParts(key: KeyText): EntryKey {
  const [namespace, name, kind, instanceId, clusterId] = key.split(SEPARATOR);
  return {
    namespace: namespace ?? "",
    name: name ?? "",
    kind: Number(kind) as Kind, // A KeyText is only made from a parsed kind.
    instanceId: instanceId ?? "",
    clusterId: clusterId ?? "",
  };
}

/** Whether a key names this cluster. HOT: once or more a record that is put, taken out or taken in (`versions`, keys that come and go). */
export function isKeyOf(clusterId: string, key: KeyText): boolean {
  return key.endsWith(clusterId) && key[key.length - clusterId.length - 1] === SEPARATOR;
}

/** `<node_id>/<generation>/<seq>`: the same on every node. */
export function deltaId(record: Pick<CatalogRecord, "origin" | "seq">): string {
  return `${record.origin.id}/${record.seq}`;
}
