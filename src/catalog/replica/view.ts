/** Computes the view of a key from the records of several origins (semantics.md, Several origins for one key). */

import { SCOPE, type Scope, widest } from "../entry/scope.ts";
import { BODY, type CatalogRecord, isKeyOf } from "../record/record.ts";

/** The fields of a record that determine which other records it ends. */
type EndingFields = Pick<CatalogRecord, "key" | "body" | "reach" | "origin" | "hlc">;

/**
 * The order of one key's records: newest stamp first; for equal stamps, entries before tombstones, then the higher node id, and for the same node the
 * later generation.
 */
export function compareForView(a: CatalogRecord, b: CatalogRecord): number {
  if (a.hlc !== b.hlc) return b.hlc - a.hlc;
  if (a.body !== b.body && (a.body === BODY.ENTRY || b.body === BODY.ENTRY)) return a.body === BODY.ENTRY ? -1 : 1;
  if (a.origin.nodeId === b.origin.nodeId) return b.origin.generation - a.origin.generation;
  return a.origin.nodeId < b.origin.nodeId ? 1 : -1;
}

/**
 * Returns the stamp below which records of the key remain hidden, regardless of their origin; 0 means none. This stamp belongs to an `unregistered`
 * tombstone: the record itself, the tombstone that it replaced, or the newest tombstone that its node knew when it ended the key. A record that is
 * not sent to other nodes ends no records of other nodes, because those nodes cannot choose a higher stamp, and this node would hide entries that all
 * others show. The same applies to a record from a cluster other than the key's.
 */
export function endsBeforeHlc(record: Pick<CatalogRecord, "key" | "origin" | "body" | "hlc" | "reach" | "unregisteredHlc">): number {
  if (record.reach === SCOPE.LOCAL) return 0;
  const endedHlc = record.body === BODY.UNREGISTERED ? record.hlc : (record.unregisteredHlc ?? 0);
  return endedHlc > 0 && isOfKeysCluster(record) ? endedHlc : 0;
}

/**
 * Whether the record's origin belongs to the cluster in its key. Only such an origin may end records of the key, because no other cluster
 * has entries there. The result depends only on key and origin, so it is the same on all nodes. An origin whose cluster is unknown is assumed to
 * belong to the key's cluster.
 */
export function isOfKeysCluster({ key, origin }: Pick<CatalogRecord, "key" | "origin">): boolean {
  const { clusterId = "" } = origin;
  return clusterId === "" || isKeyOf(clusterId, key);
}

/**
 * Returns the widest of `least` and the reaches of all entries stored for a key. Every node that received one of these entries must receive the new
 * record. Otherwise, if a key moved to another node with a narrower scope, it would remain on nodes that only the earlier record reached.
 */
export function reachOf(records: readonly Pick<CatalogRecord, "body" | "reach">[], least: Scope): Scope {
  let reach = least;
  for (const record of records) if (record.body === BODY.ENTRY) reach = widest(reach, record.reach);
  return reach;
}

/**
 * Whether a tombstone only means that its origin now publishes the key in a scope that its reader is not in. Such a tombstone hides older records of
 * every origin while it is stored, but does not end them.
 */
export function isNarrowing({ body, hlc, unregisteredHlc }: Pick<CatalogRecord, "body" | "hlc" | "unregisteredHlc">): boolean {
  return body === BODY.EXPIRED && unregisteredHlc === hlc;
}

/**
 * Whether a tombstone from a later generation of an entry's node also ends that entry, when the entry's generation is no longer the
 * node's current one. The tombstone replaced the node's earlier statements about the key, up to the tombstone's stamp. When a node continues in a new
 * generation, other nodes store its records in both generations, but its leases end the records only once. Records of a node's current generation are
 * ended only by that node, and no cluster ends records under another cluster's keys.
 */
export function endsEarlierGeneration(end: EndingFields, entry: Pick<CatalogRecord, "origin" | "hlc">): boolean {
  if (end.origin.nodeId !== entry.origin.nodeId || end.origin.generation <= entry.origin.generation) return false;
  return isEndForEarlier(end) && end.hlc >= entry.hlc;
}

/**
 * Whether the tombstone also ends records of earlier generations. If the tombstone is not sent to other nodes, or belongs to a cluster other than the
 * key's, it ends only its own origin's record.
 */
function isEndForEarlier(end: EndingFields): boolean {
  return end.body !== BODY.ENTRY && end.reach !== SCOPE.LOCAL && isOfKeysCluster(end);
}

/**
 * Returns a function that evaluates `endsEarlierGeneration` for a list of records in view order. The function must be called for the entries in that
 * order. The total cost is one pass over the records.
 */
function endedGenerations(records: readonly CatalogRecord[]): (entry: CatalogRecord) => boolean {
  let next = 0;
  /** For each node, the newest generation with a tombstone whose stamp is at or above the stamp of the last call. */
  let newest: Map<string, number> | undefined;
  return ({ origin, hlc }) => {
    if (origin.life === "live") return false;
    for (let record = records[next]; record !== undefined && record.hlc >= hlc; record = records[++next]) {
      if (!isEndForEarlier(record)) continue;
      const { nodeId, generation } = record.origin;
      newest ??= new Map();
      newest.set(nodeId, Math.max(generation, newest.get(nodeId) ?? 0));
    }
    return (newest?.get(origin.nodeId) ?? 0) > origin.generation;
  };
}

/**
 * Returns the record that readers see for a key, or undefined if the key is not visible. `records` must be sorted by `compareForView`. An unregister
 * hides all older records of every origin, even if its own origin has put the key again since then. An `expired` tombstone by itself ends only
 * records of its own node, and a LOCAL tombstone ends only records of its own origin. Records of hidden origins, and records that `admits` refuses,
 * are skipped.
 */
export function winnerOf<T extends CatalogRecord>(records: readonly T[], admits: (record: T) => boolean = () => true): T | undefined {
  let endedHlc = 0;
  for (const record of records) endedHlc = Math.max(endedHlc, endsBeforeHlc(record));
  const isEnded = endedGenerations(records);
  for (const record of records) {
    if (record.hlc < endedHlc) return undefined;
    if (record.body === BODY.ENTRY && isShown(record) && admits(record) && !isEnded(record)) return record;
  }
  return undefined;
}

/** Whether the record's seq is at or below its origin's mark. */
export function isMarked({ seq, origin }: { readonly seq: number; readonly origin: { readonly markedSeq?: number } }): boolean {
  return seq <= (origin.markedSeq ?? 0);
}

/** Whether this entry may be shown: its origin is not hidden, and the record is above the origin's mark. */
export function isShown(record: Pick<CatalogRecord, "seq" | "origin">): boolean {
  return record.origin.life !== "hidden" && !isMarked(record);
}

/**
 * Returns the entry that readers would see if its node returned. It is hidden because its node has been unreachable for too long, but it has not been
 * ended. `records` must be sorted as for `winnerOf`.
 */
export function hiddenOrphanOf<T extends CatalogRecord>(records: readonly T[]): T | undefined {
  let endedHlc = 0;
  for (const record of records) endedHlc = Math.max(endedHlc, endsBeforeHlc(record));
  const isEnded = endedGenerations(records);
  return records.find((record) => record.body === BODY.ENTRY && record.hlc >= endedHlc && !isShown(record) && !isEnded(record));
}
