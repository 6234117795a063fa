/** Ends this node's entries: with their lease, after an unregister on this or another node, or because the node leaves. */

import { isOfNodes } from "../../catalog/entry/rules.ts";
import type { Leases } from "../../catalog/leases.ts";
import { BODY, type CatalogRecord, type KeyText, keyParts } from "../../catalog/record/record.ts";
import type { StoredRecord } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { compareForView, endsBeforeHlc, isMarked, isOfKeysCluster } from "../../catalog/replica/view.ts";
import type { Hlc } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import type { IdempotentAnswers } from "./idempotent-answers.ts";
import type { LoadReports } from "./load-reports.ts";
import type { UndoLog } from "./undo-log.ts";
import type { QuotaGate } from "./write-authorization.ts";

export interface EntryRemovalParts {
  readonly replica: Replica;
  readonly leases: Leases;
  readonly hlc: Hlc;
  readonly undo: UndoLog;
  readonly loads: LoadReports;
  readonly gate: QuotaGate;
  readonly answers: Pick<IdempotentAnswers, "forgetLease">;
  readonly putAgain: (key: KeyText, time: Time) => void;
}

type RemovalBody = typeof BODY.EXPIRED | typeof BODY.UNREGISTERED;

/** Stages tombstones and updates leases accordingly. Steps to undo these changes if the batch fails are added to the undo log. */
export class EntryRemovals {
  readonly #parts: EntryRemovalParts;
  #endedLeases: string[] = [];
  #endedStatic: KeyText[] = [];
  /** Keys passed to `superseded` whose batch failed. */
  #failedBatchKeys: KeyText[] = [];
  /** Number of this node's static entries that other nodes have ended since this node started. */
  endedStaticCount = 0;
  readonly lostEntries: LostEntries;

  constructor(parts: EntryRemovalParts) {
    this.#parts = parts;
    this.lostEntries = new LostEntries(parts);
  }

  /** Number of leases that have ended since the last call of `take`. */
  get count(): number {
    return this.#endedLeases.length;
  }

  /** Returns and clears the ids of ended leases, for the journal. */
  take(): string[] {
    const ended = this.#endedLeases;
    this.#endedLeases = [];
    return ended;
  }

  /** Forgets all ended leases except the first `count`, because their call was undone. */
  forgetAfter(count: number): void {
    this.#endedLeases.length = count;
  }

  /** Ends a lease with all its entries. Returns their keys. */
  lease(leaseId: string, body: RemovalBody, time: Time): readonly KeyText[] {
    const { leases, replica } = this.#parts;
    const removed: KeyText[] = [];
    for (const key of leases.keysOf(leaseId)) {
      const own = replica.own(key);
      this.#detach(key);
      if (own === undefined || own.body !== BODY.ENTRY) continue;
      if (this.#end(own, body, time) === body) removed.push(key);
    }
    this.emptied(leaseId);
    return removed;
  }

  /** Unregisters those keys that are attached to the lease. Returns the removed keys. */
  ofLease(leaseId: string, keys: readonly KeyText[], time: Time): readonly KeyText[] {
    const { leases, replica } = this.#parts;
    const removed: KeyText[] = [];
    for (const key of keys) {
      const own = replica.own(key);
      if (leases.leaseOf(key) !== leaseId || own === undefined || own.body !== BODY.ENTRY) continue;
      if (this.#end(own, BODY.UNREGISTERED, time) === BODY.UNREGISTERED) removed.push(key);
      this.#release(key);
    }
    return removed;
  }

  /**
   * Ends an entry of a lease. If the key has been registered on another node, it no longer belongs to the lease, and an `unregistered` tombstone
   * would also hide the other node's entry. In this case, only this node's record ends, with the reason `expired`. Returns how the entry ended.
   */
  #end(own: StoredRecord, body: RemovalBody, time: Time): RemovalBody {
    const end = body === BODY.UNREGISTERED && this.#isTakenOver(own) ? BODY.EXPIRED : body;
    this.#addTombstone(own, end, this.#stampOf(own, end, time));
    return end;
  }

  #isTakenOver(own: StoredRecord): boolean {
    const shown = this.#parts.replica.view(own.key);
    if (shown === undefined || shown.body !== BODY.ENTRY || shown.origin.nodeId === own.origin.nodeId) return false;
    return isOfKeysCluster(shown) && compareForView(own, shown) > 0;
  }

  /** Unregisters a key, regardless of which node's record is visible to readers. */
  key(record: CatalogRecord, time: Time): void {
    this.#addTombstone(record, BODY.UNREGISTERED, this.#stampOf(record, BODY.UNREGISTERED, time));
    this.#release(record.key);
  }

  /**
   * Ends this node's live records that are hidden by another node's `unregistered` tombstone or by a tombstone summary. Keys that have been put again
   * since then are kept. If a tombstone summary hides them, leased entries are kept too. Returns the number of changes.
   */
  superseded(keys: readonly KeyText[], time: Time): number {
    let ended = 0;
    for (const key of keys) {
      const own = this.#parts.replica.own(key);
      if (own === undefined) continue;
      // This also applies if the newer record is only staged: if its batch fails, the older record remains but is hidden.
      this.#parts.undo.push(() => this.#failedBatchKeys.push(key));
      const isHidden = this.#isHidden(own);
      if (own.body !== BODY.ENTRY || !(isHidden || isMarked(own))) continue;
      const leaseId = this.#parts.leases.leaseOf(key);
      if (!isHidden && leaseId !== undefined && this.lostEntries.keeps(key, this.#leaseInfo(leaseId), time)) {
        ended += 1;
        continue;
      }
      this.#addTombstone(own, BODY.EXPIRED, this.#stampOf(own, BODY.EXPIRED, time));
      this.#release(key);
      if (leaseId !== undefined) this.#informHolder(leaseId, key);
      ended += 1;
    }
    return ended;
  }

  /** Retries the keys from `superseded` whose batch failed, because no other code ends their records. */
  retry(time: Time): void {
    const keys = this.#failedBatchKeys;
    this.#failedBatchKeys = [];
    this.superseded(keys, time);
  }

  /**
   * Ends at most `maxCount` of this node's entries with a seq above `after`, because the node leaves. Returns the seq from which to continue, or
   * undefined at the end. To keep batches small, the caller continues only when the staged records are durable. Records for which `stays` is true are
   * kept.
   */
  own(after: number, maxCount: number, time: Time, stays: (stored: StoredRecord) => boolean): number | undefined {
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
   * Ends one of this node's records because another node now owns the entry. The tombstone's stamp is one step above the record's stamp, so it is
   * below the stamp of every later write of the key, even by this node if the entry returns.
   */
  handedOver(stored: StoredRecord): void {
    this.#addTombstone(stored, BODY.EXPIRED, stored.hlc + 1);
    this.#release(stored.key);
  }

  /** Ends a lease that has no keys. */
  emptied(id: string): void {
    const { leases, undo } = this.#parts;
    const { ttlMs, principal = "", deadlineMonoMs = 0 } = leases.find(id) ?? {};
    leases.end(id);
    this.lostEntries.ended(id);
    this.#endedLeases.push(id);
    // The lease keeps its deadline, so an expired lease is due again immediately and ends with the next batch.
    undo.push(() => leases.grant(id, { ttlMs, principal }, deadlineMonoMs - (ttlMs ?? 0)));
  }

  /**
   * Returns the stamp of a removal. An expiry keeps the stamp of this node's record, because a lease ends independently of clocks. If other nodes
   * have records of an earlier incarnation of this node, the expiry covers the records up to that stamp, but no records that are unknown to this
   * node.
   */
  #stampOf(record: CatalogRecord, body: RemovalBody, time: Time): number {
    const { replica, hlc } = this.#parts;
    return body === BODY.EXPIRED ? record.hlc : hlc.stampAbove(newestHlc(replica, record.key), time.wallMs);
  }

  #addTombstone(record: CatalogRecord, body: RemovalBody, hlc: number): void {
    const { replica, gate, loads } = this.#parts;
    gate.stage(record.key, undefined);
    replica.stageTombstone(record, body, hlc);
    loads.forget(record.key);
  }

  /**
   * Returns and clears the keys of static entries that `superseded` ended. Static entries are not renewed by clients, so the node itself reports
   * their end.
   */
  takeEndedStatic(): readonly KeyText[] {
    const keys = this.#endedStatic;
    this.#endedStatic = [];
    return keys;
  }

  /** Ensures that the client that registered the key is notified of its end: the next renewal does not find the lease. */
  #informHolder(leaseId: string, key: KeyText): void {
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

  #leaseInfo(id: string): { readonly id: string; readonly isStatic: boolean } {
    return { id, isStatic: this.#parts.leases.find(id)?.ttlMs === undefined };
  }

  /** Detaches a key. A static lease that loses its last key is ended here, because it would never expire. */
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

  /** Whether another node has unregistered the key since this record was put. */
  #isHidden(own: StoredRecord): boolean {
    const records = this.#parts.replica.records(own.key);
    return records.some((record) => record.origin !== own.origin && endsBeforeHlc(record) > own.hlc);
  }
}

/**
 * Minimum distance between the stamp of a write and the newest stamp of its key. Each hand-over between leaving nodes adds one step to the stamp. A
 * node that writes the key in the meantime may be unaware of these hand-overs, so its stamp must be higher by this many steps.
 */
const HAND_OVER_STEPS = 1024;

/**
 * Returns a lower bound for the stamp of the next write: the key's newest stamp, plus the steps of possible hand-overs. All records that show or end
 * other records are considered, including staged ones. Returns 0 if there is no such record. An `expired` tombstone is considered only for the
 * unregister that it carries, because it does not end any records of other nodes. If it were stamped by a fast clock, every later write of the key
 * would otherwise have to be above that stamp. Records of clusters that do not own the key are not considered either.
 */
export function newestHlc(replica: Pick<Replica, "records" | "own">, key: KeyText): number {
  let newest = countedHlc(replica.own(key));
  for (const record of replica.records(key)) newest = Math.max(newest, countedHlc(record));
  return newest === 0 ? 0 : newest + HAND_OVER_STEPS - 1;
}

function countedHlc(record: StoredRecord | undefined): number {
  if (record === undefined || !isOfKeysCluster(record)) return 0;
  return record.body === BODY.EXPIRED ? endsBeforeHlc(record) : record.hlc;
}

interface LostEntriesParts {
  readonly replica: Pick<Replica, "own">;
  readonly undo: UndoLog;
  /** Puts one of this node's live records again, unchanged except for its number and stamp. */
  readonly putAgain: (key: KeyText, time: Time) => void;
}

/**
 * This node's entries that a tombstone summary hides, because the node was unreachable for so long that their tombstones have been removed
 * (semantics.md, Orphans). An entry with a live lease is put again at the next renewal, which proves that its client still wants it.
 */
class LostEntries {
  readonly #parts: LostEntriesParts;
  readonly #leaseIds = new Set<string>();

  constructor(parts: LostEntriesParts) {
    this.#parts = parts;
  }

  /**
   * Whether one of this node's records is kept although a tombstone summary hides it. The node's own entry is put again immediately, and a client's
   * entry at its next renewal.
   */
  keeps(key: KeyText, lease: { readonly id: string; readonly isStatic: boolean }, time: Time): boolean {
    if (isOfNodes(keyParts(key).namespace)) this.#parts.putAgain(key, time);
    else if (lease.isStatic) return false;
    else this.#leaseIds.add(lease.id);
    return true;
  }

  /** Whether a renewal of the lease must put any records again. */
  // HOT: once per renewal.
  has(leaseId: string): boolean {
    return this.#leaseIds.size > 0 && this.#leaseIds.has(leaseId);
  }

  /** Puts the hidden records of a renewed lease again. */
  renewed(leaseId: string, keys: readonly KeyText[], time: Time): void {
    this.#leaseIds.delete(leaseId);
    this.#parts.undo.push(() => this.#leaseIds.add(leaseId));
    for (const key of keys) {
      const own = this.#parts.replica.own(key);
      if (own !== undefined && own.body === BODY.ENTRY && isMarked(own)) this.#parts.putAgain(key, time);
    }
  }

  ended(leaseId: string): void {
    this.#leaseIds.delete(leaseId);
  }
}
