/**
 * Writes this node's own records: register, renew, unregister and expire. A call stages all its changes in one turn of the event loop. The records
 * become visible when their journal batch has succeeded, or are undone if it has failed (semantics.md, Leases and life).
 */

import { type BatchLease, putOf, type WriteBatch } from "../../catalog/batch.ts";
import type { CheckState } from "../../catalog/entry/checks.ts";
import type { EntryStamper, StampedEntry } from "../../catalog/entry/codec.ts";
import { isControlNamespace } from "../../catalog/entry/names.ts";
import type { Leases } from "../../catalog/leases.ts";
import { BODY, type CatalogRecord, type KeyText, keyLabel } from "../../catalog/record/record.ts";
import type { Origin, StoredRecord } from "../../catalog/record/stored-record.ts";
import type { Replica } from "../../catalog/replica/replica.ts";
import { InvariantError, invalid, WaymarkError } from "../../lib/errors.ts";
import type { Hlc } from "../../lib/hlc.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { StallAwareClock } from "../../lib/stall-aware-clock.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import type { NamespaceQuotas } from "../../policy/limits/quotas.ts";
import { EntryPuts, FunctionIds } from "./entry-puts.ts";
import { EntryRemovals } from "./entry-removals.ts";
import { HandOver } from "./hand-over.ts";
import {
  attemptOf,
  IdempotentAnswers,
  NO_ATTEMPT,
  type RegisterFields,
  type RegisterResult,
  type RetryIdentity,
  restoredAttempt,
  storedAttempt,
} from "./idempotent-answers.ts";
import { LeaseRights } from "./lease-rights.ts";
import type { EntryReport, LoadReports, RenewalResult } from "./load-reports.ts";
import { MaintenanceWriter, type OverrideOutcome, type RequestedOverride } from "./maintenance.ts";
import { UndoLog } from "./undo-log.ts";
import {
  checkControlWrites,
  checkEnding,
  checkMaintaining,
  checkNamespace,
  checkOwner,
  checkPublishing,
  currentRecord,
  endableRecord,
  expiredRecord,
  isAdmin,
  lastRemoval,
  mayEndExpired,
  presentFor,
  QuotaGate,
  unknownLease,
  type WriteAuthorizer,
} from "./write-authorization.ts";

/**
 * Decides which tombstones may be collected: old tombstones and tombstones in excess of the allowed number (`age`), only the excess (`count`), or
 * none.
 */
export type CollectsBy = "age" | "count" | "nothing";

export interface RegistrarOptions extends WriteAuthorizer {
  readonly nodeId: string;
  readonly defaultLeaseTtlMs: number;
  readonly minLeaseTtlMs: number;
  readonly maxLeaseTtlMs: number;
  /** Number of remembered requests. */
  readonly maxIdempotencyKeys: number;
  /**
   * Returns which tombstones may be collected now. Never returns `age` while a node may still return with a record that such a tombstone ends.
   * Returns `nothing` while the lost origins are unknown.
   */
  readonly collectsBy: () => CollectsBy;
  /** Returns the random part of a new lease ID, which has about 16 characters. */
  readonly newToken: () => string;
  /** The clock that measures leases. The clock hardly advances while this process is paused. */
  readonly stallClock: StallAwareClock;
}

/** Receives changes to this node's entries. Notifications may include entries without checks, so observers must read the record. */
export interface EntryObserver {
  /** Whether this key had checks at the last notification about it. */
  follows(key: KeyText): boolean;
  /** Called when this node's records of these keys are durable or their entries have ended. */
  committed(keys: readonly KeyText[], time: Time): void;
  /** Called when all staged changes have been undone. */
  aborted(): void;
  /** Called when a client registers one of this node's entries again or reports its health or load, even if nothing changes. */
  reported(key: KeyText, time: Time): void;
}

export interface RegistrarParts {
  readonly replica: Replica;
  readonly leases: Leases;
  readonly stamper: EntryStamper;
  readonly hlc: Hlc;
  readonly quotas: NamespaceQuotas;
  readonly loads: LoadReports;
}

export interface RegisterCommand extends RegisterFields {
  readonly stampedEntries: readonly StampedEntry[];
}

/** The node that executes a maintenance override for a key. */
export interface OverrideTarget {
  readonly nodeId: string;
  readonly isAway: boolean;
}

/**
 * A tick stops expiring leases after this many ended entries, and collects at most this many tombstones, so that a mass expiry does not
 * block the node.
 */
const TICK_COUNT = 2000;

export class Registrar {
  readonly #options: RegistrarOptions;
  readonly #replica: Replica;
  readonly #leases: Leases;
  readonly #rights: LeaseRights;
  readonly #undo = new UndoLog();
  readonly #answers: IdempotentAnswers;
  readonly loads: LoadReports;
  readonly #gate: QuotaGate;
  readonly #puts: EntryPuts;
  readonly functionIds: FunctionIds;
  readonly entryRemovals: EntryRemovals;
  readonly #maintenance: MaintenanceWriter;
  /** Hands over static entries when this node or another node leaves. */
  readonly handOver: HandOver;
  #newLeases: BatchLease[] = [];
  #forget: KeyText[] = [];
  #batchedSeq: number;
  /** Observers of this node's entries with checks. Observers are notified of all events after they are added. */
  readonly followers = new Set<EntryObserver>();
  /** The keys of the batch in flight that may have or may have had checks. */
  #mayBeChecked: readonly KeyText[] = [];
  /** Number of leases that have expired since the start. */
  expiredCount = 0;
  /** Whether renewals extend leases, but are answered as if they had expired, so that clients register on other nodes. */
  isDraining = false;

  constructor(options: RegistrarOptions, parts: RegistrarParts) {
    this.#options = options;
    this.#replica = parts.replica;
    this.#leases = parts.leases;
    this.#rights = new LeaseRights(options, parts);
    this.#batchedSeq = parts.replica.lastSeq;
    this.#answers = new IdempotentAnswers({ maxCount: options.maxIdempotencyKeys, maxTtlMs: options.maxLeaseTtlMs });
    this.loads = parts.loads;
    this.#gate = new QuotaGate(parts.replica, parts.quotas);
    this.functionIds = new FunctionIds(parts.replica);
    const shared = { undo: this.#undo, loads: this.loads, gate: this.#gate };
    this.#puts = new EntryPuts({
      ...parts,
      ...shared,
      onEmptied: (leaseId) => this.entryRemovals.emptied(leaseId),
      onOrders: (key, orders, time) => this.#maintenance.note(key, orders, time.wallMs),
    });
    this.#maintenance = new MaintenanceWriter({ ...parts, undo: this.#undo, puts: this.#puts });
    const putAgain = (key: KeyText, time: Time) => this.#puts.rewrite(key, time);
    this.entryRemovals = new EntryRemovals({ ...parts, ...shared, answers: this.#answers, putAgain });
    this.handOver = new HandOver({
      ...parts,
      entryRemovals: this.entryRemovals,
      gate: this.#gate,
      grant: (principal, time) => this.#grant({ principal }, NO_ATTEMPT, undefined, time),
      attach: (key, id, isLive) => this.#puts.attach(key, { id, isNew: false }, isLive),
      onOrders: (key, orders) => this.#maintenance.taken(key, orders),
    });
  }

  /** Whether there are staged records that are not in a batch yet. */
  get hasWork(): boolean {
    return (
      this.#replica.lastSeq > this.#batchedSeq ||
      this.#newLeases.length > 0 ||
      this.entryRemovals.count > 0 ||
      this.#puts.moved.size > 0 ||
      this.#forget.length > 0
    );
  }

  /** Puts all entries under a lease, or fails without putting any of them. The answer is valid once the next batch is durable. */
  register(caller: Caller, command: RegisterCommand, time: Time): RegisterResult {
    const attempt = attemptOf(command);
    const answered = this.#answers.find(caller, attempt, this.#options.stallClock.dueMs(time.monoMs));
    if (answered !== undefined) return answered;
    this.#checkKeys(caller, command.stampedEntries);
    const lease = command.leaseId === "" ? undefined : this.#joinedLease(caller, command);
    const ttlMs = lease === undefined ? this.ttlOf("", command.ttlMs, command.isStatic) : lease.ttlMs;
    checkControlWrites(this.#options, { caller, stampedEntries: command.stampedEntries, ttlMs }, this.#replica);
    this.#gate.check(caller, command.stampedEntries);
    const leaseId = this.#whole(() => {
      const id = lease?.id ?? this.#grant(caller, attempt, ttlMs, time);
      const putLease = { id, isNew: lease === undefined };
      for (const stamped of command.stampedEntries) this.#puts.put(caller, stamped, putLease, time);
      return id;
    });
    if (lease !== undefined) this.#leases.renew(lease.id, this.leaseMs(time));
    this.#notifyReported(command.stampedEntries, time);
    return this.#remember(caller, attempt, { leaseId, ttlMs }, time);
  }

  /**
   * Returns the ttl of a request's lease in ms, rounded up. This ttl also applies to entries without a ttl of their own. Throws `invalid_argument` if
   * the ttl is out of range.
   */
  ttlOf(leaseId: string, ttlMs: number | undefined, isStatic: boolean): number | undefined {
    if (ttlMs !== undefined) this.#checkTtl(ttlMs, isStatic);
    if (leaseId !== "") return this.#leases.find(leaseId)?.ttlMs;
    return isStatic ? undefined : Math.ceil(ttlMs ?? this.#options.defaultLeaseTtlMs);
  }

  /**
   * Extends this node's leases. A lease is reported as expired if it does not exist on this node, belongs to another principal, or contains an entry
   * that the caller may no longer register.
   */
  renew(caller: Caller, leaseIds: readonly string[], reports: readonly EntryReport[], time: Time): RenewalResult {
    for (const report of reports) this.#checkReport(caller, report);
    const expiredLeaseIds: string[] = [];
    const leaseMs = this.leaseMs(time);
    let ttlMs: number | undefined;
    for (const id of leaseIds) {
      const isHolder = this.#leases.principalOfLease(id) === caller.principal && this.#rights.mayHold(caller, id);
      const renewed = isHolder ? this.#leases.renew(id, leaseMs) : undefined;
      if (renewed === undefined || (this.isDraining && Number.isFinite(renewed))) expiredLeaseIds.push(id);
      else if (Number.isFinite(renewed) && (ttlMs === undefined || renewed < ttlMs)) ttlMs = renewed;
      if (renewed !== undefined && this.entryRemovals.lostEntries.has(id))
        this.#whole(() => this.entryRemovals.lostEntries.renewed(id, this.#leases.keysOf(id), time));
    }
    if (reports.length > 0) this.#whole(() => reports.forEach((report) => this.#report(report, time)));
    return { expiredLeaseIds, ttlMs };
  }

  /** Extends the caller's leases of these keys on this node. */
  renewKeys(caller: Caller, keys: readonly KeyText[], time: Time): void {
    const leaseIds = keys.flatMap((key) => this.#leases.leaseOf(key) ?? []);
    this.renew(caller, leaseIds, [], time);
  }

  /**
   * Ends a lease with all its entries or, if `keys` is given, only these keys of the lease. Returns the removed keys. Throws
   * `lease_not_found`. A key that has since been registered under another lease or on another node remains registered there.
   */
  unregisterLease(caller: Caller, leaseId: string, time: Time, keys?: readonly KeyText[]): readonly KeyText[] {
    const isForeign = this.#leases.principalOfLease(leaseId) !== caller.principal && !isAdmin(caller);
    if (isForeign || !this.#leases.has(leaseId)) throw unknownLease(leaseId, "in that case, call the other node");
    return this.#whole(() =>
      keys === undefined ? this.entryRemovals.lease(leaseId, BODY.UNREGISTERED, time) : this.entryRemovals.ofLease(leaseId, keys, time),
    );
  }

  /**
   * Removes keys, regardless of which node of this cluster registered them. Returns the keys that existed. Rejects the whole call if a key was
   * registered by another principal. An expired key is marked as unregistered, because readers may still have its entry. If a key does not exist on
   * this node, `onUnknown` is called before any removal. It may throw.
   */
  unregisterKeys(caller: Caller, keys: readonly KeyText[], time: Time, onUnknown: () => void = () => {}): readonly KeyText[] {
    const found = new Map<KeyText, CatalogRecord>();
    const gone = new Set<CatalogRecord>();
    for (const [i, key] of keys.entries()) {
      const record = presentFor(this.#options, caller, endableRecord(this.#replica, key));
      if (record === undefined) {
        onUnknown();
        const expired = expiredRecord(this.#replica, key);
        if (expired !== undefined && mayEndExpired(this.#options, caller, expired, expired === this.#replica.own(key))) gone.add(expired);
        continue;
      }
      checkEnding(this.#options, caller, record, `keys[${i}]`);
      found.set(key, record);
    }
    this.#whole(() => {
      for (const record of [...found.values(), ...gone]) this.entryRemovals.key(record, time);
    });
    return [...found.keys()];
  }

  /** Removes this node's entries in slices when the node leaves the cluster. Entries that will be handed over stay: see `EntryRemovals.own`. */
  endOwn(after: number, maxCount: number, time: Time): number | undefined {
    return this.entryRemovals.own(after, maxCount, time, (stored) => this.handOver.stays(stored));
  }

  /**
   * Ends this node's leased entries, or its static entries, at most `maxCount`. Returns their keys. LOCAL static entries stay, because they end with
   * the node.
   */
  endLeft(kind: "leased" | "static", maxCount: number, time: Time): readonly KeyText[] {
    const keys: KeyText[] = [];
    this.entryRemovals.own(0, maxCount, time, (stored) => {
      const stays = this.handOver.kindOf(stored) !== kind;
      if (!stays) keys.push(stored.key);
      return stays;
    });
    return keys;
  }

  /**
   * Ends expired leases until 2,000 entries have ended. The last lease ends with all its entries, regardless of their number, because otherwise its
   * holder could renew the rest. Collects at most 2,000 old tombstones. The remaining work is due at the next call.
   */
  tick(time: Time): void {
    const dueMs = this.#options.stallClock.dueMs(time.monoMs);
    let left = TICK_COUNT;
    for (const id of this.#leases.expire(dueMs, TICK_COUNT)) {
      if (left <= 0) break;
      // A lease without entries is counted as one entry.
      left -= Math.max(1, this.entryRemovals.lease(id, BODY.EXPIRED, time).length);
      this.expiredCount += 1;
    }
    this.entryRemovals.retry(time);
    this.#maintenance.tick(time);
    const by = this.#options.collectsBy();
    if (by !== "nothing") this.#forget.push(...this.#replica.collect(time, TICK_COUNT, by));
    this.#answers.sweep(dueMs);
  }

  /** Returns the time of the lease clock. The clock hardly advances while this process is paused. */
  leaseMs({ monoMs }: Time): number {
    return this.#options.stallClock.nowMs(monoMs);
  }

  /** The time at which `tick` next has work, in monotonic ms. A pause of this process postpones that time. */
  nextDeadlineMs(): number {
    const collectMonoMs = this.#replica.nextCollectMonoMs();
    // This method runs for every frame. `collectsBy` examines all peers, so it is called only if there are tombstones.
    const mayCollect = collectMonoMs !== NEVER && this.#options.collectsBy() === "age";
    return Math.min(this.#options.stallClock.dueMonoMs(this.#leases.nextDeadlineMs()), mayCollect ? collectMonoMs : NEVER);
  }

  /**
   * Applies a maintenance override to keys that are registered on this node. Returns one outcome per key. The outcomes are valid once the next batch
   * is durable.
   */
  orderMaintenance(keys: readonly KeyText[], ordered: RequestedOverride, time: Time): readonly OverrideOutcome[] {
    return this.#whole(() => this.#maintenance.order(keys, ordered, time));
  }

  /**
   * Returns the node that executes an override for the key: the node on which the key is registered, or the node that remembers its last removal.
   * Returns undefined if there is no such node or the caller cannot see the entry. Throws `discovery_access_denied` if the caller is not allowed to
   * request maintenance for the entry.
   */
  orderTarget(caller: Caller, key: KeyText, field: string): OverrideTarget | undefined {
    const record = presentFor(this.#options, caller, endableRecord(this.#replica, key) ?? lastRemoval(this.#replica, key));
    if (record === undefined) return undefined;
    checkMaintaining(this.#options, caller, record, field);
    const { nodeId, life } = record.origin;
    return { nodeId, isAway: life !== "live" };
  }

  /**
   * Returns the keys of all entries registered by a node of this cluster, except the control plane's entries. Returns undefined for an unknown node.
   * Cost: O(records of the node).
   */
  entriesOfNode(nodeId: string): { readonly keys: readonly KeyText[]; readonly isAway: boolean } | undefined {
    const { clusterId } = this.#options.source;
    const origins = [...this.#replica.origins.values()].filter((origin) => origin.nodeId === nodeId && isHome(origin, clusterId));
    const entries = origins.flatMap(({ log }) => log.list().filter((stored) => isRegistered(this.#replica, stored)));
    return origins.length === 0 ? undefined : { keys: entries.map(({ key }) => key), isAway: origins.every(({ life }) => life !== "live") };
  }

  /**
   * Applies other nodes' changes to this node's entries: an unregister or a tombstone summary ends entries, and newer maintenance overrides are
   * adopted.
   */
  applyRemoteChanges(keys: readonly KeyText[], time: Time): void {
    this.entryRemovals.superseded(keys, time);
    this.#maintenance.adopt(keys, time);
  }

  /** Must be called after the journal's rows have been restored. */
  restored(): void {
    this.#maintenance.restored();
  }

  /**
   * Stores the check results of one of this node's entries, with one state per check. Throws `clock_skew` if the record cannot be stamped.
   */
  found(key: KeyText, states: readonly CheckState[], time: Time): void {
    this.#whole(() => this.#puts.found(key, states, time));
  }

  // ---- batches ----

  /** Returns everything staged since the last call, for the journal. Returns undefined if nothing is staged. */
  takeBatch(): WriteBatch | undefined {
    if (!this.hasWork) return undefined;
    const takenSeq = this.#batchedSeq;
    const isNewest = (stored: StoredRecord) => stored.seq > takenSeq && this.#replica.own(stored.key) === stored;
    const newest = this.#replica.staged.filter(isNewest);
    for (const key of this.#puts.moved) {
      const own = this.#replica.own(key);
      if (own !== undefined && own.body === BODY.ENTRY && own.seq <= takenSeq) newest.push(own);
    }
    if (this.#puts.moved.size > 0) newest.sort((x, y) => x.seq - y.seq);
    this.#mayBeChecked = newest.filter((stored) => this.#isFollowed(stored)).map(({ key }) => key);
    const puts = newest.map((stored) => putOf(this.#replica, this.#leases, stored));
    const batch: WriteBatch = {
      forget: this.#forget,
      leases: this.#newLeases,
      puts,
      endedLeases: this.entryRemovals.take(),
      lastSeq: this.#replica.lastSeq,
      floor: this.#replica.self.floor,
    };
    this.#batchedSeq = this.#replica.lastSeq;
    [this.#newLeases, this.#forget] = [[], []];
    this.#puts.moved.clear();
    this.#undo.seal(batch.lastSeq);
    return batch;
  }

  /** Called when the batch is on disk, so that its records become visible. */
  commit(batch: WriteBatch, time: Time): void {
    this.#replica.commit(batch.lastSeq, time);
    this.#undo.forget(batch.lastSeq);
    this.#gate.quotas.commit(batch.lastSeq);
    for (const follower of this.followers) follower.committed(this.#mayBeChecked, time);
    this.#mayBeChecked = [];
  }

  /** Called when the batch has failed. The batch is undone, together with everything that was staged after it. */
  abort(batch: WriteBatch): void {
    this.#replica.abort();
    this.#undo.undo();
    this.#mayBeChecked = [];
    for (const follower of this.followers) follower.aborted();
    this.#gate.quotas.abort();
    this.#batchedSeq = this.#replica.lastSeq;
    this.#newLeases = [];
    this.entryRemovals.take();
    this.#puts.moved.clear();
    // Collected tombstones have already been removed from memory, so the journal must still drop them.
    this.#forget.push(...(batch.forget as KeyText[])); // oxlint-disable-line typescript/no-unsafe-type-assertion -- the keys this class put there
  }

  // ---- the parts ----

  /** Runs the call atomically: if it throws, only its changes are undone. */
  #whole<T>(call: () => T): T {
    const [seq, mark, leaseCount, endedCount] = [this.#replica.lastSeq, this.#undo.mark, this.#newLeases.length, this.entryRemovals.count];
    try {
      return call();
    } catch (error) {
      this.#replica.unstage(seq);
      this.#gate.quotas.abortAfter(seq);
      this.#undo.undoTo(mark);
      this.#newLeases.length = leaseCount;
      this.entryRemovals.forgetAfter(endedCount);
      if (error instanceof InvariantError) error.isUndone = true;
      throw error;
    }
  }

  /** Like `checkNamespace` of `write-authorization.ts`. */
  checkNamespace(caller: Caller, namespace: string, field: string): void {
    checkNamespace(this.#options, caller, namespace, field);
  }

  #checkKeys(caller: Caller, stampedEntries: readonly StampedEntry[]): void {
    stampedEntries.forEach((stamped, i) => {
      checkPublishing(this.#options, caller, stamped, i);
      const current = currentRecord(this.#replica, stamped.key);
      if (current !== undefined) checkOwner(this.#options, caller, current, { action: "register", field: `entries[${i}].key` });
    });
    checkDistinct(stampedEntries);
    this.functionIds.check(stampedEntries);
  }

  #joinedLease(caller: Caller, command: RegisterCommand): { id: string; ttlMs: number | undefined } {
    const lease = this.#leases.find(command.leaseId);
    if (lease?.principal !== caller.principal || this.#leases.isLost(lease.id) || !this.#rights.mayHold(caller, lease.id))
      throw unknownLease(command.leaseId, "omit the lease to get a new one");
    if (command.isStatic && lease.ttlMs !== undefined)
      throw invalid("static_lease", "must be false: lease_id refers to a lease that is not static");
    return lease;
  }

  #checkTtl(ttlMs: number, isStatic: boolean): void {
    const { minLeaseTtlMs, maxLeaseTtlMs } = this.#options;
    if (isStatic) throw invalid("ttl", "must be absent if static_lease is set");
    if (ttlMs < minLeaseTtlMs || ttlMs > maxLeaseTtlMs)
      throw invalid("ttl", `must be from ${minLeaseTtlMs / 1000} s to ${maxLeaseTtlMs / 1000} s, got ${ttlMs / 1000} s`);
  }

  #grant({ principal }: Pick<Caller, "principal">, attempt: RetryIdentity, ttlMs: number | undefined, time: Time): string {
    const idempotencyKey = storedAttempt(attempt);
    const id = `${this.#options.nodeId}/${this.#options.newToken()}`;
    this.#leases.grant(id, { ttlMs, principal }, this.leaseMs(time));
    this.#newLeases.push({ leaseId: id, ttlMs: ttlMs ?? 0, principal, idempotencyKey, grantedWallMs: time.wallMs });
    this.#undo.push(() => this.#leases.end(id));
    return id;
  }

  #checkReport(caller: Caller, report: EntryReport): void {
    const own = presentFor(this.#options, caller, this.#replica.own(report.key));
    if (own === undefined || own.body !== BODY.ENTRY)
      throw new WaymarkError(
        "not_found",
        `${report.path}: ${keyLabel(report.key)} is not registered on this node; renew it on the node that registered it`,
      );
    checkOwner(this.#options, caller, own, { action: "renew", field: report.path });
  }

  #report(report: EntryReport, time: Time): void {
    const own = this.#replica.own(report.key);
    if (own === undefined) return;
    this.#notifyReported([report], time);
    const isHealthChange = report.health !== undefined && report.health !== this.#puts.healthOf(own);
    const isLoadNews = report.load !== undefined && this.loads.note(report.key, report.load, time.monoMs);
    if (!isHealthChange && !isLoadNews) return;
    if (isLoadNews) this.#undo.push(() => this.loads.markUnsent(report.key));
    this.#puts.reported(report.key, report.health, time);
  }

  /** HOT: once per record. */
  #isFollowed({ key, mayHaveChecks }: StoredRecord): boolean {
    for (const follower of this.followers) if (mayHaveChecks || follower.follows(key)) return true;
    return false;
  }

  #notifyReported(of: readonly { readonly key: KeyText }[], time: Time): void {
    for (const follower of this.followers) for (const { key } of of) follower.reported(key, time);
  }

  #remember(caller: Caller, attempt: RetryIdentity, answer: RegisterResult, time: Time): RegisterResult {
    this.#answers.keep(caller, attempt, answer, this.leaseMs(time));
    if (attempt.key !== "") this.#undo.push(() => this.#answers.forget(caller, attempt.key));
    return answer;
  }

  /** Restores an idempotent answer that was given before a restart, from the journal's data about the request. */
  restoreAnswer(principal: string, stored: string, answer: RegisterResult, leaseMs: number): void {
    this.#answers.keep({ principal }, restoredAttempt(stored), answer, leaseMs);
  }
}

function isHome({ clusterId }: Origin, ours: string): boolean {
  return clusterId === "" || clusterId === ours;
}

/** Whether this record is a client's entry and readers see it. */
function isRegistered(replica: Replica, stored: StoredRecord): boolean {
  return stored.body === BODY.ENTRY && !isControlNamespace(stored.namespace) && replica.view(stored.key) === stored;
}

/** Throws `invalid_argument` if two stamped entries have the same key. */
function checkDistinct(stampedEntries: readonly StampedEntry[]): void {
  const keys = new Set<KeyText>();
  stampedEntries.forEach(({ key }, i) => {
    if (keys.add(key).size > i) return;
    const twin = stampedEntries.findIndex((stamped) => stamped.key === key);
    throw invalid(`entries[${i}].key`, `is the same as entries[${twin}].key; a request must not repeat a key`);
  });
}
