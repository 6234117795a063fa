/** Restores this node's records from the journal, and restarts the ttl of each lease (semantics.md, Restart). */

import type { BatchLease, RestoredPut } from "../../catalog/batch.ts";
import type { EntryStamper, IndexFields } from "../../catalog/entry/codec.ts";
import type { EntryBounds } from "../../catalog/entry/names.ts";
import type { Leases } from "../../catalog/leases.ts";
import { decodeRecord } from "../../catalog/record/codec.ts";
import { BODY, HEALTH, keyText } from "../../catalog/record/record.ts";
import { entryFields, StoredRecord } from "../../catalog/record/stored-record.ts";
import { NO_TRAITS } from "../../catalog/record/traits.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { rethrowInvariant } from "../../lib/errors.ts";
import type { Hlc } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import { newestHlc } from "./entry-removals.ts";
import type { Registrar } from "./registrar.ts";

export interface RestoreParts {
  readonly replica: Replica;
  readonly leases: Leases;
  readonly stamper: EntryStamper;
  readonly bounds: EntryBounds;
  /**
   * The region of this node. The region is passed separately, because the replica does not know it before the fabric starts. If undefined, the
   * entries keep their region.
   */
  readonly region: string | undefined;
}

export interface JournalRestoreParts extends RestoreParts {
  readonly hlc: Hlc;
  readonly maxClockSkewMs: number;
}

/** Restores all rows of a journal in order. */
export class JournalRestore {
  readonly #parts: JournalRestoreParts;
  readonly #time: Time;
  readonly #toPutAgain: RestoredPut[] = [];

  constructor(parts: JournalRestoreParts, time: Time) {
    this.#parts = parts;
    this.#time = time;
  }

  /** Restores one row. Throws `invalid_argument` for a row that this version cannot have written. */
  row(row: RestoredPut): void {
    const { hlc, maxClockSkewMs } = this.#parts;
    const stamp = restoreRow(row, this.#parts, this.#time);
    if (stamp === undefined) this.#toPutAgain.push({ ...row, record: row.record.slice() });
    else hlc.merge(stamp, this.#time.wallMs, maxClockSkewMs);
  }

  /** Must be called after the last row. Returns the number of records that were staged to be written again. */
  finish(): number {
    for (const row of this.#toPutAgain) putAgain(row, this.#parts, this.#time);
    return this.#toPutAgain.length;
  }
}

/** Grants the leases that are stored in the journal. Must be called before rows are restored. */
export function restoreLeases(leases: Leases, granted: readonly BatchLease[], registrar: Registrar, time: Time): void {
  const leaseMs = registrar.leaseMs(time);
  for (const { leaseId, ttlMs, principal, idempotencyKey } of granted) {
    const terms = { ttlMs: ttlMs === 0 ? undefined : ttlMs, principal };
    leases.grant(leaseId, terms, leaseMs);
    if (idempotencyKey !== "") registrar.restoreAnswer(principal, idempotencyKey, { leaseId, ttlMs: terms.ttlMs }, leaseMs);
  }
}

/**
 * Restores one row. Returns the row's stamp, for the clock. Throws `invalid_argument` for a row that this version cannot have written.
 * Returns undefined for a row that must be put again (`JournalRestore`) because its region is not the node's current region, so peers would reject
 * it.
 */
export function restoreRow(row: RestoredPut, parts: RestoreParts, time: Time): number | undefined {
  const { replica, leases, stamper, bounds } = parts;
  const record = decodeRecord(row.record, bounds);
  const origin = replica.self;
  if (record.body !== BODY.ENTRY) {
    const gone = { at: 0, sizeBytes: 0, contentBytes: 0, health: HEALTH.HEALTHY, scope: record.reach, traits: NO_TRAITS };
    replica.install(new StoredRecord({ ...record, origin, ...record.key, ...gone, key: keyText(record.key) }), time);
    return record.hlc;
  }
  const stamped = stamper.entryOfJournal(record.entry);
  if (isInOtherRegion(stamped, parts.region)) return undefined;
  replica.install(new StoredRecord(entryFields(record, stamped, { origin, slab: replica.slab })), time);
  if (row.leaseId !== "" && leases.has(row.leaseId)) leases.attach(row.leaseId, stamped.key);
  return record.hlc;
}

/**
 * Stages the entry of a row under its old lease, with a new number and a current stamp. Must be called after all rows have been restored, in the
 * order of the rows. The new record replaces the old one on peers.
 */
function putAgain(row: RestoredPut, parts: JournalRestoreParts, time: Time): void {
  const { replica, leases, bounds, hlc } = parts;
  const record = decodeRecord(row.record, bounds);
  if (record.body !== BODY.ENTRY) return;
  const { principal, reach, orders } = record;
  const { stamped, bytes } = inOwnRegion(record.entry, parts);
  const stamp = hlc.stampEnd(newestHlc(replica, stamped.key), time.wallMs);
  replica.stagePut({ ...stamped, principal, reach, hlc: stamp, orders, bytes, isFilterChange: true });
  if (row.leaseId !== "" && leases.has(row.leaseId)) leases.attach(row.leaseId, stamped.key);
}

function isInOtherRegion({ traits }: IndexFields, region: string | undefined): region is string {
  return region !== undefined && traits.region !== region;
}

/** Returns the entry with this node's region. */
function inOwnRegion(entry: Uint8Array, { region, stamper }: JournalRestoreParts): ReturnType<EntryStamper["storedInRegion"]> {
  const stamped = stamper.entryOfStored(entry);
  if (isInOtherRegion(stamped, region)) {
    try {
      return stamper.storedInRegion(entry, region);
    } catch (error) {
      // With the longer region name, the entry is too large. The entry keeps its old region until its client registers it again.
      rethrowInvariant(error);
    }
  }
  return { stamped, bytes: entry.slice() };
}
