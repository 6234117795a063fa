/** What the registrar asks to be made durable together; the journal's batch has the same shape. */

export interface BatchPut {
  readonly key: string;
  readonly seq: number;
  /** Encoded `waymark.fabric.v1.Record`; copied by whoever keeps it. */
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
  /** Keys whose collected tombstones go. */
  readonly forget: readonly string[];
  readonly leases: readonly BatchLease[];
  /** Ascending by seq, newest of each key. */
  readonly puts: readonly BatchPut[];
  readonly endedLeases: readonly string[];
  /** Highest seq ever handed out. */
  readonly lastSeq: number;
  readonly floor: number;
}
