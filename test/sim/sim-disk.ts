/** The disk of a simulated node. */
import type { KeyText } from "../../src/catalog/record/record.ts";
import type { Batch, BatchLease, BatchPut } from "../../src/discovery/registrar/batch.ts";
import { ControlMap } from "../fakes/control-map.ts";
import { copyOf } from "./policies.ts";

/** What survives a crash. */
export class SimDisk {
  generation: number;
  lastSeq = 0;
  floor = 0;
  rows = new Map<string, BatchPut>();
  leases = new Map<string, BatchLease>();
  /** Of the policy. */
  store = new ControlMap();
  /** Of what other nodes told. */
  snapshot: { readonly bytes: Uint8Array; readonly savedWallMs: number } | undefined;
  /** Keys of others' entries that are in the snapshot, for the invariants. */
  saved: ReadonlySet<KeyText> = new Set();
  /** Members of the own cluster. */
  roster: Uint8Array | undefined;
  /** The names of the starts, the last one first; undefined where starts have no names, as without a disk. */
  boots: readonly string[] | undefined;

  constructor(generation: number) {
    this.generation = generation;
  }

  write(batch: Batch): void {
    for (const key of batch.forget) this.rows.delete(key);
    for (const lease of batch.leases) this.leases.set(lease.leaseId, lease);
    for (const put of batch.puts) this.rows.set(put.key, { ...put, record: Uint8Array.from(put.record) });
    for (const id of batch.endedLeases) this.leases.delete(id);
    this.lastSeq = batch.lastSeq;
    this.floor = batch.floor;
  }

  copy(): SimDisk {
    const copy = new SimDisk(this.generation);
    copy.lastSeq = this.lastSeq;
    copy.floor = this.floor;
    copy.rows = new Map(this.rows);
    copy.leases = new Map(this.leases);
    copy.store = copyOf(this.store);
    copy.snapshot = this.snapshot;
    copy.saved = this.saved;
    copy.roster = this.roster;
    copy.boots = this.boots;
    return copy;
  }
}
