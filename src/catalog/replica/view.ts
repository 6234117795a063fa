/** Several origins' records of one key → what people see of it (semantics.md, Several origins for one key). */

import { SCOPE, type Scope, widest } from "../entry/scope.ts";
import { BODY, type CatalogRecord, isKeyOf } from "../record/record.ts";

/** What decides on what a record ends. */
type Ending = Pick<CatalogRecord, "key" | "body" | "reach" | "origin" | "hlc">;

/**
 * Order of one key's records: newest stamp first; of equal stamps entries before tombstones, then the higher node id, of one node the later
 * generation. The ids are compared with the slash that origin ids have behind them: so did versions that compared those.
 */
export function compareForView(a: CatalogRecord, b: CatalogRecord): number {
  if (a.hlc !== b.hlc) return b.hlc - a.hlc;
  if (a.body !== b.body && (a.body === BODY.ENTRY || b.body === BODY.ENTRY)) return a.body === BODY.ENTRY ? -1 : 1;
  if (a.origin.nodeId === b.origin.nodeId) return b.origin.generation - a.origin.generation;
  return `${a.origin.nodeId}/` < `${b.origin.nodeId}/` ? 1 : -1;
}

/**
 * Records of the key with an older stamp than this stay hidden, whatever their origin: the stamp of an `unregistered`
 * tombstone, of the one that this record of its origin replaced, or that its node knew of when it ended it. 0: none. What no other node is told ends nothing of theirs:
 * they could not stamp above it, and this node would go on hiding what all of them show. Nor does what another cluster than the key's says.
 */
export function endsBeforeHlc(record: Pick<CatalogRecord, "key" | "origin" | "body" | "hlc" | "reach" | "unregisteredHlc">): number {
  if (record.reach === SCOPE.LOCAL) return 0;
  const endedHlc = record.body === BODY.UNREGISTERED ? record.hlc : (record.unregisteredHlc ?? 0);
  return endedHlc > 0 && isOfKeysCluster(record) ? endedHlc : 0;
}

/**
 * Whether the record's origin is of the cluster that its key names, and so may end anything under it: no other cluster has entries there. A
 * function of key and origin alone, so that all nodes say the same. Of an origin whose cluster nobody told it is taken to be so.
 */
export function isOfKeysCluster({ key, origin }: Pick<CatalogRecord, "key" | "origin">): boolean {
  const { clusterId = "" } = origin;
  return clusterId === "" || isKeyOf(clusterId, key);
}

/**
 * Widest reach of all entries held of a key, and of `least`. Who was told of any of them is to hear of what is put now: a key that
 * is moved to another node with a narrower scope would else stay where only the record before it reached.
 */
export function reachOf(records: readonly Pick<CatalogRecord, "body" | "reach">[], least: Scope): Scope {
  let reach = least;
  for (const record of records) if (record.body === BODY.ENTRY) reach = widest(reach, record.reach);
  return reach;
}

/**
 * Whether a tombstone says that its origin publishes the key where its reader is not: it hides what is older, of every origin, for as
 * long as it is held, and ends nothing.
 */
export function isNarrowing({ body, hlc, unregisteredHlc }: Pick<CatalogRecord, "body" | "hlc" | "unregisteredHlc">): boolean {
  return body === BODY.EXPIRED && unregisteredHlc === hlc;
}

/**
 * Whether a tombstone of a later generation of an entry's node ends it too, once that node lives in the entry's generation no more: it took
 * the place of what that node said of the key, up to its stamp. A node that goes on in a new generation has its records twice where others hold the
 * old one, and its leases end once. What a node says in the generation that it lives in only itself ends; and no cluster ends anything under
 * another's keys, whatever it calls its origins.
 */
export function endsEarlierGeneration(end: Ending, entry: Pick<CatalogRecord, "origin" | "hlc">): boolean {
  if (end.origin.nodeId !== entry.origin.nodeId || end.origin.generation <= entry.origin.generation) return false;
  return isEndForEarlier(end) && end.hlc >= entry.hlc;
}

/** What no other node is told of, or another cluster than the key's says, ends nothing but its own origin's record. */
function isEndForEarlier(end: Ending): boolean {
  return end.body !== BODY.ENTRY && end.reach !== SCOPE.LOCAL && isOfKeysCluster(end);
}

/**
 * As `endsEarlierGeneration`, by any of the records, which are in view order; to be asked of entries in that order. Cost: one pass over the records
 * for all of them.
 */
function endedGenerations(records: readonly CatalogRecord[]): (entry: CatalogRecord) => boolean {
  let next = 0;
  /** By node, the newest generation with an end at or above the stamp that was asked of last. */
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
 * The record people see of a key, or undefined. `records` are sorted by `compareForView`. What was unregistered hides every
 * older record, whatever its origin, also when its own origin has put the key again since; an `expired` tombstone by itself ends only what
 * its own node said, and a LOCAL one only its own origin's; a hidden origin's record is passed over, and one that `admits` refuses.
 */
export function winnerOf<T extends CatalogRecord>(records: readonly T[], admits: (record: T) => boolean = everything): T | undefined {
  let endedHlc = 0;
  for (const record of records) endedHlc = Math.max(endedHlc, endsBeforeHlc(record));
  const isEnded = endedGenerations(records);
  for (const record of records) {
    if (record.hlc < endedHlc) return undefined;
    if (record.body === BODY.ENTRY && isShown(record) && admits(record) && !isEnded(record)) return record;
  }
  return undefined;
}

/** What an origin wrote up to its mark. */
export function isMarked({ seq, origin }: { readonly seq: number; readonly origin: { readonly markedSeq?: number } }): boolean {
  return seq <= (origin.markedSeq ?? 0);
}

/** Whether its origin's entries are shown: not of one that is away for too long, nor below a mark. */
export function isShown(record: Pick<CatalogRecord, "seq" | "origin">): boolean {
  return record.origin.life !== "hidden" && !isMarked(record);
}

/** The entry that people would see if its node came back: hidden because that is away for too long, and not ended. `records` as in `winnerOf`. */
export function hiddenOrphanOf<T extends CatalogRecord>(records: readonly T[]): T | undefined {
  let endedHlc = 0;
  for (const record of records) endedHlc = Math.max(endedHlc, endsBeforeHlc(record));
  const isEnded = endedGenerations(records);
  return records.find((record) => record.body === BODY.ENTRY && record.hlc >= endedHlc && !isShown(record) && !isEnded(record));
}

function everything(): boolean {
  return true;
}
