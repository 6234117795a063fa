/** From the journal back into the replica: own records, and each lease for its ttl once more (semantics.md, Restart). */
import { Cell } from "../catalog/cell.ts";
import type { Drafter } from "../catalog/codec.ts";
import type { Leases } from "../catalog/leases.ts";
import type { Bounds } from "../catalog/names.ts";
import { BODY, HEALTH, keyText } from "../catalog/record.ts";
import { decodeRecord } from "../catalog/record-codec.ts";
import type { Replica } from "../catalog/replica.ts";
import { NO_TRAITS } from "../catalog/traits.ts";
import type { Time } from "../lib/machine.ts";
import type { BatchLease, BatchPut } from "./batch.ts";
import type { Registrar } from "./registrar.ts";

export interface RestoreParts {
  readonly replica: Replica;
  readonly leases: Leases;
  readonly drafter: Drafter;
  readonly bounds: Bounds;
}

/** Grants what was granted before; to be called before the rows. */
export function restoreLeases(leases: Leases, granted: readonly BatchLease[], registrar: Registrar, time: Time): void {
  for (const { leaseId, ttlMs, principal, idempotencyKey } of granted) {
    const terms = { ttlMs: ttlMs === 0 ? undefined : ttlMs, principal };
    leases.grant(leaseId, terms, time.monoMs);
    if (idempotencyKey !== "") registrar.restoreAnswer(principal, idempotencyKey, { leaseId, ttlMs: terms.ttlMs }, time.monoMs);
  }
}

/** Puts one row back; returns its stamp, for the clock. Throws `invalid_argument` on a row this version cannot have written. */
export function restoreRow(row: BatchPut, parts: RestoreParts, time: Time): number {
  const { replica, leases, drafter, bounds } = parts;
  const record = decodeRecord(row.record, bounds);
  const head = { ...record, origin: replica.self };
  if (record.body !== BODY.ENTRY) {
    const gone = { at: 0, sizeBytes: 0, contentBytes: 0, health: HEALTH.HEALTHY, scope: record.reach, traits: NO_TRAITS };
    replica.install(new Cell({ ...head, ...record.key, ...gone, key: keyText(record.key) }), time);
    return record.hlc;
  }
  const { key, namespace, name, kind, scope, health, traits, contentBytes } = drafter.draftOfStored(record.entry);
  const at = replica.slab.put(record.entry);
  replica.install(
    new Cell({ ...head, key, namespace, name, kind, scope, health, traits, at, sizeBytes: record.entry.length, contentBytes }),
    time,
  );
  if (row.leaseId !== "" && leases.has(row.leaseId)) leases.attach(row.leaseId, key);
  return record.hlc;
}
