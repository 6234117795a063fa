/**
 * The changes of a node that become durable together: the registrar creates them, and the journal stores them and returns them at a
 * restart.
 */

import type { Leases } from "./leases.ts";
import { encodeRecord } from "./record/codec.ts";
import { BODY, keyParts } from "./record/record.ts";
import type { StoredRecord } from "./record/stored-record.ts";
import type { Replica } from "./replica/replica.ts";

/** This node's own newest record of a key. */
export interface BatchPut {
  readonly key: string;
  readonly seq: number;
  /** Encoded `waymark.fabric.v1.Record`. It may be a view of a larger buffer, so a receiver that keeps it must copy it. */
  readonly record: Uint8Array;
  /** Empty for tombstones. */
  readonly leaseId: string;
}

/** A put as the journal returns it: the record contains its key. */
export type RestoredPut = Omit<BatchPut, "key">;

export interface BatchLease {
  readonly leaseId: string;
  /** 0 for a static lease, which never expires. */
  readonly ttlMs: number;
  readonly principal: string;
  readonly idempotencyKey: string;
  readonly grantedWallMs: number;
}

/** The numbers from which the assignment of seqs continues. */
export interface SeqNumbers {
  /** The highest assigned seq, whether or not its row is in the journal. */
  readonly lastSeq: number;
  /** Tombstones up to this seq may have been collected. */
  readonly floor: number;
}

/** A batch of changes. Its fields are applied in their order. */
export interface WriteBatch extends SeqNumbers {
  /** Keys whose collected tombstones are dropped. They are applied first, because the same batch may put such a key again. */
  readonly forget: readonly string[];
  /** Newly granted leases. */
  readonly leases: readonly BatchLease[];
  /** Puts in ascending order of seq, only the newest put of each key. The lease of a put is in `leases` or was in an earlier batch. */
  readonly puts: readonly BatchPut[];
  readonly endedLeases: readonly string[];
}

/** Returns the journal's row of a record of this node. */
export function rowOf({ slab }: Pick<Replica, "slab">, stored: StoredRecord): Uint8Array {
  const { body } = stored;
  if (body === BODY.ENTRY) return encodeRecord(stored, { body, entry: slab.view(stored.at, stored.sizeBytes) });
  return encodeRecord(stored, { body, key: keyParts(stored.key) });
}

/** Returns the journal's content for a record of this node. */
export function putOf(replica: Pick<Replica, "slab">, leases: Pick<Leases, "leaseOf">, stored: StoredRecord): BatchPut {
  const leaseId = stored.body === BODY.ENTRY ? (leases.leaseOf(stored.key) ?? "") : "";
  return { key: stored.key, seq: stored.seq, record: rowOf(replica, stored), leaseId };
}
