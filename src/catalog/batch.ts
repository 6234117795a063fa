/**
 * Changes that a node makes durable together. The registrar creates them; the journal stores them and replays them after a restart.
 */

import type { Leases } from "./leases.ts";
import { encodeRecord } from "./record/codec.ts";
import { BODY, keyParts } from "./record/record.ts";
import type { StoredRecord } from "./record/stored-record.ts";
import type { Replica } from "./replica/replica.ts";

/** This node's newest record for a key. */
export interface BatchPut {
  readonly key: string;
  readonly seq: number;
  /** Encoded `waymark.fabric.v1.Record`. The bytes may be a view of a larger buffer, so a receiver that keeps them must copy them. */
  readonly record: Uint8Array;
  /** Empty for tombstones. */
  readonly leaseId: string;
}

/** A put as restored from the journal. Its record contains the key. */
export type RestoredPut = Omit<BatchPut, "key">;

export interface BatchLease {
  readonly leaseId: string;
  /** 0 for a static lease, which never expires. */
  readonly ttlMs: number;
  readonly principal: string;
  readonly idempotencyKey: string;
  readonly grantedWallMs: number;
}

/** The numbers from which this node continues to assign seqs. */
export interface SeqNumbers {
  /** The highest assigned seq, whether or not its row is in the journal. */
  readonly lastSeq: number;
  /** Tombstones up to this seq may have been collected. */
  readonly floor: number;
}

/** A batch of changes. The fields are applied in the order in which they are declared. */
export interface WriteBatch extends SeqNumbers {
  /**
   * Keys whose tombstones have been collected and are now dropped. These keys are dropped first, because the same batch may put one of them again.
   */
  readonly forget: readonly string[];
  /** Newly granted leases. */
  readonly leases: readonly BatchLease[];
  /** Puts in ascending order of seq, with only the newest put for each key. The lease of each put is in `leases` or was in an earlier batch. */
  readonly puts: readonly BatchPut[];
  readonly endedLeases: readonly string[];
}

/** Returns the journal row for one of this node's records. */
export function rowOf({ slab }: Pick<Replica, "slab">, stored: StoredRecord): Uint8Array {
  const { body } = stored;
  if (body === BODY.ENTRY) return encodeRecord(stored, { body, entry: slab.view(stored.at, stored.sizeBytes) });
  return encodeRecord(stored, { body, key: keyParts(stored.key) });
}

/** Returns the put that the journal stores for one of this node's records. */
export function putOf(replica: Pick<Replica, "slab">, leases: Pick<Leases, "leaseOf">, stored: StoredRecord): BatchPut {
  const leaseId = stored.body === BODY.ENTRY ? (leases.leaseOf(stored.key) ?? "") : "";
  return { key: stored.key, seq: stored.seq, record: rowOf(replica, stored), leaseId };
}
