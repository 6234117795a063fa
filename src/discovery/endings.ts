/** How entries of this node end: with their lease, by being taken out, by another origin's word, or because the node leaves. */
import type { Cell } from "../catalog/cell.ts";
import type { Leases } from "../catalog/leases.ts";
import { BODY, type CatalogRecord, type KeyText } from "../catalog/record.ts";
import type { Replica } from "../catalog/replica.ts";
import { endsBeforeHlc } from "../catalog/view.ts";
import type { Hlc } from "../lib/hlc.ts";
import type { Time } from "../lib/machine.ts";
import type { Loads } from "./loads.ts";
import type { QuotaGate } from "./quota-gate.ts";
import type { UndoLog } from "./undo-log.ts";

export interface EndingParts {
  readonly replica: Replica;
  readonly leases: Leases;
  readonly hlc: Hlc;
  readonly undo: UndoLog;
  readonly loads: Loads;
  readonly gate: QuotaGate;
}

type End = typeof BODY.EXPIRED | typeof BODY.UNREGISTERED;

/** Stages tombstones and keeps leases in step with them; what a refused batch undoes goes into the undo log. */
export class Endings {
  readonly #parts: EndingParts;
  #endedLeases: string[] = [];

  constructor(parts: EndingParts) {
    this.#parts = parts;
  }

  /** Leases that ended since the last call of `take`. */
  get count(): number {
    return this.#endedLeases.length;
  }

  /** Ids of ended leases, for the journal. */
  take(): string[] {
    const ended = this.#endedLeases;
    this.#endedLeases = [];
    return ended;
  }

  /** Ends a lease with all its entries; returns how many there were. */
  lease(leaseId: string, body: End, time: Time): number {
    const { leases, replica } = this.#parts;
    let removed = 0;
    for (const key of leases.keysOf(leaseId)) {
      const own = replica.own(key);
      this.#detach(key);
      if (own === undefined || own.body !== BODY.ENTRY) continue;
      this.#bury(own, body, time);
      removed += 1;
    }
    this.emptied(leaseId);
    return removed;
  }

  /** Takes a key out, whoever's record it is that people see. */
  key(record: CatalogRecord, time: Time): void {
    this.#bury(record, BODY.UNREGISTERED, time);
    this.#release(record.key);
  }

  /** Ends own live records that another origin's `unregistered` hides; a key that was put again since stays. Returns how many. */
  superseded(keys: readonly KeyText[], time: Time): number {
    let ended = 0;
    for (const key of keys) {
      const own = this.#parts.replica.own(key);
      if (own === undefined || own.body !== BODY.ENTRY || !this.#isHidden(own)) continue;
      this.#bury(own, BODY.EXPIRED, time);
      this.#release(key);
      ended += 1;
    }
    return ended;
  }

  /**
   * Ends own entries because the node leaves: at most `maxCount` with a seq above `after`. Returns where to go on, undefined at the
   * end; wait until what is staged is durable before going on, so that no batch is large.
   */
  own(after: number, maxCount: number, time: Time): number | undefined {
    const { replica } = this.#parts;
    const found: Cell[] = [];
    let last = after;
    replica.self.log.forEachSince(after, (cell, seq) => {
      if (found.length === maxCount) return false;
      last = seq;
      if (cell.body === BODY.ENTRY && replica.own(cell.key) === cell) found.push(cell);
      return true;
    });
    for (const cell of found) {
      this.#bury(cell, BODY.EXPIRED, time);
      this.#detach(cell.key);
    }
    if (found.length === maxCount) return last;
    for (const id of this.#parts.leases.ids()) if (this.#parts.leases.find(id)?.keyCount === 0) this.emptied(id);
    return undefined;
  }

  /** A lease that has no key left is over. */
  emptied(id: string): void {
    const { leases, undo } = this.#parts;
    const { ttlMs, principal = "", deadlineMonoMs = 0 } = leases.find(id) ?? {};
    leases.end(id);
    this.#endedLeases.push(id);
    // With the deadline it had: one that had run out is due again at once, and tried again with the next batch.
    undo.push(() => leases.grant(id, { ttlMs, principal }, deadlineMonoMs - (ttlMs ?? 0)));
  }

  #bury(record: CatalogRecord, body: End, time: Time): void {
    const { replica, gate, hlc, loads } = this.#parts;
    gate.stage(record.key, undefined);
    replica.stageTombstone(record, body, hlc.stampAbove(newestHlc(replica, record.key), time.wallMs));
    loads.forget(record.key);
  }

  /** Nobody renews a static lease: once it is empty, nothing else would end it. */
  #release(key: KeyText): void {
    const { leases } = this.#parts;
    const lease = leases.find(leases.leaseOf(key) ?? "");
    this.#detach(key);
    if (lease !== undefined && lease.ttlMs === undefined && lease.keyCount === 1) this.emptied(lease.id);
  }

  #detach(key: KeyText): void {
    const { leases, undo } = this.#parts;
    const leaseId = leases.leaseOf(key);
    if (leaseId === undefined) return;
    leases.detach(key);
    undo.push(() => leases.has(leaseId) && leases.attach(leaseId, key));
  }

  /** Whether another origin took the key out after this record was put. */
  #isHidden(own: Cell): boolean {
    const records = this.#parts.replica.records(own.key);
    return records.some((record) => record.origin !== own.origin && endsBeforeHlc(record) > own.hlc);
  }
}

/** The newest stamp held of a key, staged ones included; 0 where there is none. What is written next must be above it. */
export function newestHlc(replica: Pick<Replica, "records" | "own">, key: KeyText): number {
  // In view order: the first is the newest.
  return Math.max(replica.records(key)[0]?.hlc ?? 0, replica.own(key)?.hlc ?? 0);
}
