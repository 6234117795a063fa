/** How entries of this node end: with their lease, by being taken out, by another origin's word, or because the node leaves. */

import type { Leases } from "../../catalog/leases.ts";
import { BODY, type CatalogRecord, type KeyText } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { endsBeforeHlc, isMarked, isOfKeysCluster } from "../../catalog/replica/view.ts";
import type { Hlc } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import type { Answers } from "./answers.ts";
import type { Loads } from "./loads.ts";
import { LostEntries } from "./lost-entries.ts";
import type { QuotaGate } from "./quota-gate.ts";
import type { UndoLog } from "./undo-log.ts";

export interface EndingParts {
  readonly replica: Replica;
  readonly leases: Leases;
  readonly hlc: Hlc;
  readonly undo: UndoLog;
  readonly loads: Loads;
  readonly gate: QuotaGate;
  readonly answers: Pick<Answers, "forgetLease">;
  readonly putAgain: (key: KeyText, time: Time) => void;
}

type End = typeof BODY.EXPIRED | typeof BODY.UNREGISTERED;

/** Stages tombstones and keeps leases in step with them; what a refused batch undoes goes into the undo log. */
export class Endings {
  readonly #parts: EndingParts;
  #endedLeases: string[] = [];
  #endedStatic: KeyText[] = [];
  /** Keys given to `superseded` in a batch that was refused. */
  #refused: KeyText[] = [];
  /** Static entries of this node that another origin's word ended, since the start. */
  endedStaticCount = 0;
  readonly lostEntries: LostEntries;

  constructor(parts: EndingParts) {
    this.#parts = parts;
    this.lostEntries = new LostEntries(parts);
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

  /** Leases that ended since there were `count` are not over after all. */
  forgetAfter(count: number): void {
    this.#endedLeases.length = count;
  }

  /** Ends a lease with all its entries; returns how many there were. */
  lease(leaseId: string, body: End, time: Time): number {
    const { leases, replica } = this.#parts;
    let removed = 0;
    for (const key of leases.keysOf(leaseId)) {
      const own = replica.own(key);
      this.#detach(key);
      if (own === undefined || own.body !== BODY.ENTRY) continue;
      this.#addTombstone(own, body, this.#stampOf(own, body, time));
      removed += 1;
    }
    this.emptied(leaseId);
    return removed;
  }

  /** Takes a key out, whoever's record it is that people see. */
  key(record: CatalogRecord, time: Time): void {
    this.#addTombstone(record, BODY.UNREGISTERED, this.#stampOf(record, BODY.UNREGISTERED, time));
    this.#release(record.key);
  }

  /**
   * Ends own live records that another origin's `unregistered` hides, or a mark; a key that was put again since stays, and of those under
   * a mark what has a lease. Returns how many changed.
   */
  superseded(keys: readonly KeyText[], time: Time): number {
    let ended = 0;
    for (const key of keys) {
      const own = this.#parts.replica.own(key);
      if (own === undefined) continue;
      // Also when what is newer is only staged: refused, it leaves the record before it, which is hidden.
      this.#parts.undo.push(() => this.#refused.push(key));
      const isHidden = this.#isHidden(own);
      if (own.body !== BODY.ENTRY || !(isHidden || isMarked(own))) continue;
      const leaseId = this.#parts.leases.leaseOf(key);
      if (!isHidden && leaseId !== undefined && this.lostEntries.keeps(key, this.#termsOf(leaseId), time)) {
        ended += 1;
        continue;
      }
      this.#addTombstone(own, BODY.EXPIRED, this.#stampOf(own, BODY.EXPIRED, time));
      this.#release(key);
      if (leaseId !== undefined) this.#tellOf(leaseId, key);
      ended += 1;
    }
    return ended;
  }

  /** Looks again at what `superseded` was given in a batch that was refused: nobody else would ever end it. */
  retry(time: Time): void {
    const keys = this.#refused;
    this.#refused = [];
    this.superseded(keys, time);
  }

  /**
   * Ends own entries because the node leaves: at most `maxCount` with a seq above `after`. Returns where to go on, undefined at the
   * end; wait until what is staged is durable before going on, so that no batch is large. What `stays` says so of is left.
   */
  own(after: number, maxCount: number, time: Time, stays: (stored: StoredRecord) => boolean = nothing): number | undefined {
    const { replica } = this.#parts;
    const found: StoredRecord[] = [];
    let last = after;
    replica.self.log.forEachSince(after, (stored, seq) => {
      if (found.length === maxCount) return false;
      last = seq;
      if (stored.body === BODY.ENTRY && replica.own(stored.key) === stored && !stays(stored)) found.push(stored);
      return true;
    });
    for (const stored of found) {
      this.#addTombstone(stored, BODY.EXPIRED, this.#stampOf(stored, BODY.EXPIRED, time));
      this.#detach(stored.key);
    }
    if (found.length === maxCount) return last;
    for (const id of this.#parts.leases.ids()) if (this.#parts.leases.find(id)?.keyCount === 0) this.emptied(id);
    return undefined;
  }

  /**
   * Ends an own record that another node has taken over. The stamp is one step above the record's: below every later word about the key,
   * this node's own included, should the entry come back to it.
   */
  handedOver(stored: StoredRecord): void {
    this.#addTombstone(stored, BODY.EXPIRED, stored.hlc + 1);
    this.#release(stored.key);
  }

  /** A lease that has no key left is over. */
  emptied(id: string): void {
    const { leases, undo } = this.#parts;
    const { ttlMs, principal = "", deadlineMonoMs = 0 } = leases.find(id) ?? {};
    leases.end(id);
    this.lostEntries.ended(id);
    this.#endedLeases.push(id);
    // With the deadline it had: one that had run out is due again at once, and tried again with the next batch.
    undo.push(() => leases.grant(id, { ttlMs, principal }, deadlineMonoMs - (ttlMs ?? 0)));
  }

  /**
   * What ends this node's own record has the stamp of that: a lease ends whatever anybody's clock said; and where others hold what an
   * earlier generation of this node said, it ends that up to there, and nothing that this one never knew.
   */
  #stampOf(record: CatalogRecord, body: End, time: Time): number {
    const { replica, hlc } = this.#parts;
    return body === BODY.EXPIRED ? record.hlc : hlc.stampAbove(newestHlc(replica, record.key), time.wallMs);
  }

  #addTombstone(record: CatalogRecord, body: End, hlc: number): void {
    const { replica, gate, loads } = this.#parts;
    gate.stage(record.key, undefined);
    replica.stageTombstone(record, body, hlc);
    loads.forget(record.key);
  }

  /** Keys of static entries that `superseded` ended since the last call: nobody renews them, so the node tells of them itself. */
  takeEndedStatic(): readonly KeyText[] {
    const keys = this.#endedStatic;
    this.#endedStatic = [];
    return keys;
  }

  /** Whoever registered the key is to know that it is gone: by its next renewal, which finds no lease. */
  #tellOf(leaseId: string, key: KeyText): void {
    const { leases, undo, answers } = this.#parts;
    const lease = leases.find(leaseId);
    if (lease === undefined || lease.ttlMs === undefined) {
      this.#endedStatic.push(key);
      this.endedStaticCount += 1;
      return;
    }
    answers.forgetLease(leaseId);
    if (lease.keyCount === 0) this.emptied(leaseId);
    else if (!leases.isLost(leaseId)) {
      leases.lose(leaseId);
      undo.push(() => leases.recover(leaseId));
    }
  }

  #termsOf(id: string): { readonly id: string; readonly isStatic: boolean } {
    return { id, isStatic: this.#parts.leases.find(id)?.ttlMs === undefined };
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
  #isHidden(own: StoredRecord): boolean {
    const records = this.#parts.replica.records(own.key);
    return records.some((record) => record.origin !== own.origin && endsBeforeHlc(record) > own.hlc);
  }
}

/**
 * Steps that a stamp is at least above the newest held of its key. Nodes that leave hand an entry over with one step each, unseen by
 * whoever writes or takes out the key meanwhile: that word must be above so many of them.
 */
const HAND_OVER_STEPS = 1024;

/**
 * A write's stamp must be above this: the newest one held of a key that shows or ends anything of others, staged ones included, and what
 * may be handed over of it; 0 where there is none. That of an `expired` tombstone does not count, but for what it carries: it ends nothing that
 * another node says, and one of a clock that is ahead would else draw every later write of the key after it, past the order in which they were made.
 * Nor does what another cluster says of the key.
 */
export function newestHlc(replica: Pick<Replica, "records" | "own">, key: KeyText): number {
  let newest = saidHlc(replica.own(key));
  for (const record of replica.records(key)) newest = Math.max(newest, saidHlc(record));
  return newest === 0 ? 0 : newest + HAND_OVER_STEPS - 1;
}

function nothing(): boolean {
  return false;
}

function saidHlc(record: StoredRecord | undefined): number {
  if (record === undefined || !isOfKeysCluster(record)) return 0;
  return record.body === BODY.EXPIRED ? endsBeforeHlc(record) : record.hlc;
}
