/** The changes that the registrar wants durable together. The journal's batch has the same shape. */

import type { Leases } from "../../catalog/leases.ts";
import { encodeRecord } from "../../catalog/record/codec.ts";
import { BODY, keyParts } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";

export interface BatchPut {
  readonly key: string;
  readonly seq: number;
  /** Encoded `waymark.fabric.v1.Record`. A receiver that keeps it must copy it. */
  readonly record: Uint8Array;
  /** Empty for tombstones. */
  readonly leaseId: string;
}

export interface BatchLease {
  readonly leaseId: string;
  /** 0 for a static lease. */
  readonly ttlMs: number;
  readonly principal: string;
  readonly idempotencyKey: string;
  readonly grantedWallMs: number;
}

export interface Batch {
  /** Keys whose collected tombstones are dropped. */
  readonly forget: readonly string[];
  readonly leases: readonly BatchLease[];
  /** Ascending by seq, only the newest of each key. */
  readonly puts: readonly BatchPut[];
  readonly endedLeases: readonly string[];
  /** The highest seq ever given out. */
  readonly lastSeq: number;
  readonly floor: number;
}

/** The journal's row of an own record. */
export function rowOf({ slab }: Pick<Replica, "slab">, stored: StoredRecord): Uint8Array {
  const { body } = stored;
  if (body === BODY.ENTRY) return encodeRecord(stored, { body, entry: slab.view(stored.at, stored.sizeBytes) });
  return encodeRecord(stored, { body, key: keyParts(stored.key) });
}

/** The journal's content for an own record. */
export function putOf(replica: Pick<Replica, "slab">, leases: Pick<Leases, "leaseOf">, stored: StoredRecord): BatchPut {
  const leaseId = stored.body === BODY.ENTRY ? (leases.leaseOf(stored.key) ?? "") : "";
  return { key: stored.key, seq: stored.seq, record: rowOf(replica, stored), leaseId };
}
