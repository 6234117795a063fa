/**
 * The replica: the newest record for each origin and key, the order in which these records changed on this node, and the version vector
 * (docs/architecture.md, The idea). Records of this node are first staged, and become visible only when their journal batch is on disk.
 */

import { assert } from "../../lib/errors.ts";
import type { Time } from "../../lib/machine.ts";
import { SCOPE, widest } from "../entry/scope.ts";
import { KeyShards } from "../key-shards.ts";
import type { EntryIndex } from "../query/entry-index.ts";
import { type MaintenanceOverrides, newerOverrides } from "../record/maintenance.ts";
import { BODY, type CatalogRecord, type KeyText, type OriginStatus } from "../record/record.ts";
import type { Slab } from "../record/slab.ts";
import { join, lastTouchOf, leave, type Origin, recordOf, StoredRecord, type StoredRecordFields } from "../record/stored-record.ts";
import { CAUSE, type ChangeCause, causeOf } from "../watch/change-cause.ts";
import { ChangeLog } from "./change-log.ts";
import { applyMarks } from "./lost-marks.ts";
import type { LostOrigins } from "./lost-origins.ts";
import { EmptiedNamespaces, NamespaceDigests } from "./namespace-digest.ts";
import { OriginRemoval } from "./origin-removal.ts";
import { type OriginLocation, OriginTable } from "./origins.ts";
import { NO_REVISION, PastViews, type PendingTouch, wasSeen } from "./past-views.ts";
import { endOf, type OwnPut, RecordStaging, stampWith, type TombstoneFields } from "./staging.ts";
import { carriedHlc, knownEndHlc, Tombstones, type TombstonesOptions } from "./tombstones.ts";
import { TouchSweeps } from "./touch-sweeps.ts";
import { compareForView, isOfKeysCluster, isShown, reachOf, winnerOf } from "./view.ts";

/** In a copy, all tombstones have this time of arrival. A copy never collects tombstones because of their age. */
const BEFORE_ALL: Time = { monoMs: 0, wallMs: 0 };

export interface ReplicaOptions extends TombstonesOptions {
  readonly generation: number;
  /** The highest seq that this node's origin has assigned. Each seq is used only once. */
  readonly lastSeq: number;
  readonly floor: number;
  /** The cluster and region of this node. Required if the node has links. */
  readonly place?: OriginLocation;
  /** Number of touches for which the replica remembers the previous view. */
  readonly pastTouches?: number;
}

/**
 * Receives each change of a replica, in order, immediately before the change is made. This information is sufficient to maintain an exact copy
 * (`src/catalog/copy/`).
 */
export interface ReplicaObserver {
  /** A record is installed. `any` is one of the records stored for its key. */
  installs(next: StoredRecord, any: StoredRecord | undefined, pending: PendingTouch): void;
  /** A record replaces all records stored for its key. `any` is one of them. */
  supersedes(next: StoredRecord, any: StoredRecord | undefined): void;
  touches(stored: StoredRecord, pending: PendingTouch): void;
  withdraws(stored: StoredRecord, pending: PendingTouch): void;
  drops(stored: StoredRecord): void;
  /** A revision is assigned without touching a record. */
  passes(): void;
  forgets(origin: Origin): void;
  restoresOrigin(id: string): void;
}

/** The state with which a copy starts. */
export interface CopyStart {
  readonly revision: number;
  readonly collectedRevision: number;
  readonly forgotten: readonly string[];
  readonly localNamespaces: readonly string[];
}

export class Replica {
  readonly lookup: EntryIndex;
  readonly slab: Slab;
  readonly self: Origin;
  readonly digests = new NamespaceDigests();
  readonly emptied = new EmptiedNamespaces();
  readonly past: PastViews;
  /** Namespaces in which this node has had LOCAL entries. */
  readonly localNamespaces = new Set<string>();
  /** Pending touches and removals that affect many records. `sweep` executes them. */
  readonly sweeps = new TouchSweeps(this, () => this.passRevision());
  /** The cause of a key's removal if the records do not show it, for example for records received from another server. */
  readonly causes = new WeakMap<StoredRecord, ChangeCause>();
  /**
   * Tombstones of keys that were unregistered after they had expired, when readers no longer saw them. Readers get another REMOVE for such a key,
   * because they may keep expired entries for a while.
   */
  readonly endedAgain = new WeakSet<StoredRecord>();
  /** Each follower receives every change made after it was added. */
  readonly followers = new Set<ReplicaObserver>();
  /** Whether this replica has had any record with a maintenance override since the process started. */
  hasOrders = false;
  #forgetting: OriginRemoval | undefined;
  /** Number of origins that this process has forgotten. */
  forgottenCount = 0;
  readonly #tombstones: Tombstones;
  /** Whether a record may be visible. A record that the owner rule does not permit is stored, but hidden. */
  #admits: ((stored: StoredRecord) => boolean) | undefined;
  readonly #origins = new OriginTable();
  /** One stored record for every key that has records but is not visible, for example because it has only tombstones or hidden orphans. */
  readonly #absent = new KeyShards<KeyText, StoredRecord>();
  readonly #byRevision = new ChangeLog<StoredRecord>((stored) => stored.revision);
  #revision = 0;
  #collectedRevision = 0;
  readonly #staging: RecordStaging;
  #touched = new Set<string>();

  constructor(lookup: EntryIndex, slab: Slab, options: ReplicaOptions) {
    this.lookup = lookup;
    this.slab = slab;
    this.#tombstones = new Tombstones(options, this.lost);
    this.past = new PastViews(options.pastTouches);
    this.#staging = new RecordStaging(options.lastSeq);
    this.self = this.origin(options.nodeId, options.generation, options.place);
    Object.assign(this.self, { through: options.lastSeq, floor: options.floor });
  }

  /** The revision of the last change on this node. */
  get revision(): number {
    return this.#revision;
  }

  /** A reader with a cursor below this revision may have missed a removal whose tombstone was collected, so it needs a snapshot. */
  get collectedRevision(): number {
    return this.#collectedRevision;
  }

  get origins(): ReadonlyMap<string, Origin> {
    return this.#origins.known;
  }

  get lastSeq(): number {
    return this.#staging.lastSeq;
  }

  /** Number of stored records, including records that are not visible to any reader. */
  get recordCount(): number {
    return this.#byRevision.size;
  }

  get tombstoneCount(): number {
    return this.#tombstones.count;
  }

  /** The ids of forgotten origins. A reader whose cursor contains one of them needs a snapshot. */
  get forgotten(): ReadonlyMap<string, true> {
    return this.#origins.forgotten;
  }

  /** The forgotten origins that may return, and their marks. Code that adds a mark must call `applyMarks`. */
  get lost(): LostOrigins {
    return this.#origins.lost;
  }

  /** Returns the origin with this id, and adds it if it is unknown. The location of an origin never changes after it is first known. */
  origin(nodeId: string, generation: number, place?: OriginLocation): Origin {
    return this.#origins.take(nodeId, generation, place);
  }

  /** Returns the record that readers see for the key. */
  view(key: KeyText): CatalogRecord | undefined {
    return this.lookup.find(key);
  }

  /** Returns this node's own newest record of the key, which may be a staged record. */
  own(key: KeyText): StoredRecord | undefined {
    return this.#staging.find(key) ?? recordOf(this.#any(key), this.self);
  }

  /**
   * Returns the newest maintenance overrides among the key's records (semantics.md, Maintenance). Records of every origin of the key's cluster are
   * used, including staged records and tombstones, so the next registration of the key applies the overrides on any node. HOT: while no record has an
   * override, no lookup is needed.
   */
  newestOrders(key: KeyText): MaintenanceOverrides | undefined {
    if (!this.hasOrders) return undefined;
    let newest = this.own(key)?.orders;
    for (const record of this.records(key)) if (isOfKeysCluster(record)) newest = newerOverrides(newest, record.orders);
    return newest;
  }

  /** Returns all records of the key in view order, except staged records. */
  records(key: KeyText): readonly StoredRecord[] {
    const any = this.#any(key);
    return any === undefined ? [] : (any.peers ?? [any]);
  }

  /** Returns the record that readers see for the key of a stored record. */
  winner(stored: StoredRecord): StoredRecord | undefined {
    if (stored.peers !== undefined) return winnerOf(stored.peers, this.#admits);
    return stored.body === BODY.ENTRY && isShown(stored) && this.isAdmitted(stored) ? stored : undefined;
  }

  /** Whether the owner rule permits the record to be visible. For a tombstone, returns whether the entry that it ended could be visible. */
  isAdmitted(stored: StoredRecord): boolean {
    return this.#admits === undefined || this.#admits(stored);
  }

  /** Sets the function that decides which records may be visible. The caller must touch the records whose verdict changes. */
  setAdmission(admits: ((stored: StoredRecord) => boolean) | undefined): void {
    this.#admits = admits;
  }

  /** Moves this node's own origin to another generation, as part of `startNewGeneration`. */
  renameSelf(generation: number): void {
    this.#origins.rename(this.self, generation);
  }

  // ---- own records: stage, commit, abort ----
  /** Assigns a seq to a put and stages it. The record remains invisible until `commit` is called. */
  stagePut(put: OwnPut): StoredRecord {
    const before = this.own(put.key);
    const wasLive = before !== undefined && before.body === BODY.ENTRY;
    const seq = this.#staging.nextSeq();
    // HOT: one literal, as in `endOf`. Spreading `put` into it would allocate half a kilobyte of garbage per entry (bench/register.ts).
    return this.#stage({
      key: put.key,
      namespace: put.namespace,
      name: put.name,
      kind: put.kind,
      origin: this.self,
      seq,
      hlc: put.hlc,
      firstSeq: wasLive ? before.firstSeq : seq,
      filterSeq: wasLive && !put.isFilterChange ? before.filterSeq : seq,
      body: BODY.ENTRY,
      scope: put.scope,
      reach: reachOf(this.records(put.key), widest(widest(before?.reach ?? SCOPE.UNSET, put.scope), put.reach ?? SCOPE.UNSET)),
      health: put.health,
      traits: put.traits,
      principal: put.principal,
      hasAliases: put.hasAliases,
      hasChecks: put.hasChecks,
      unregisteredHlc: carriedHlc(before),
      orders: put.orders,
      at: this.slab.put(put.bytes),
      sizeBytes: put.bytes.length,
      contentBytes: put.contentBytes,
    });
  }

  /**
   * Assigns a seq to a tombstone of this node and stages the tombstone. The key must have a record of some origin on this node. An `unregistered`
   * tombstone hides older records of every origin, so its reach is as wide as the widest reach of those records. An `expired` tombstone ends this
   * node's own record and has that record's stamp. The tombstone also contains the newest known unregister of the key. Otherwise, a node that
   * receives that unregister after the tombstone would show older records again. The key's maintenance overrides are included too.
   */
  stageTombstone(
    of: TombstoneFields,
    body: typeof BODY.EXPIRED | typeof BODY.UNREGISTERED,
    hlc: number,
    orders = this.newestOrders(of.key),
  ): StoredRecord {
    const before = this.own(of.key);
    const seq = this.#staging.nextSeq();
    let reach = widest(before?.reach ?? SCOPE.UNSET, of.reach);
    if (body === BODY.UNREGISTERED)
      for (const record of this.records(of.key)) if (isOfKeysCluster(record)) reach = widest(reach, record.reach);
    const unregisteredHlc = body === BODY.UNREGISTERED ? undefined : knownEndHlc(before, this.records(of.key));
    const stamp = stampWith(hlc, unregisteredHlc);
    const firstSeq = before?.firstSeq ?? seq;
    return this.#stage(endOf(of, { origin: this.self, body, reach, seq, hlc: stamp, firstSeq, unregisteredHlc, orders }));
  }

  /** The staged records, oldest first. */
  get staged(): readonly StoredRecord[] {
    return this.#staging.storedRecords;
  }

  /** Makes staged records visible, in order. Called when the batch that contains all staged records with a seq up to `through` is on disk. */
  commit(through: number, time: Time): void {
    for (const stored of this.#staging.take(through)) this.install(stored, time);
    this.self.through = Math.max(this.self.through, through);
  }

  /** Drops all staged records, because their batch was refused. Their seqs are not reused (semantics.md, Durability). */
  abort(): void {
    for (const stored of this.#staging.take(this.lastSeq)) if (stored.sizeBytes > 0) this.slab.free(stored.at, stored.sizeBytes);
  }

  /** Drops the staged records above a seq, because the call that staged them failed. Earlier staged records are kept. */
  unstage(after: number): void {
    for (const stored of this.#staging.takeAfter(after)) if (stored.sizeBytes > 0) this.slab.free(stored.at, stored.sizeBytes);
  }

  // ---- records of any origin ----
  /**
   * Installs a record that is no longer staged, was received from another node, or was restored from the journal. A record that is not newer than the
   * stored record of its origin is skipped. The version vector does not advance. Returns whether anything changed. A copy passes the pending touch of
   * the key that the original replica computed.
   */
  install(next: StoredRecord, time: Time, copied?: PendingTouch): boolean {
    const seen = this.lookup.find(next.key);
    const any = seen instanceof StoredRecord ? seen : this.#absent.get(next.key);
    const held = recordOf(any, next.origin);
    if (held !== undefined && held.seq >= next.seq) {
      if (next.sizeBytes > 0) this.slab.free(next.at, next.sizeBytes);
      return false;
    }
    const pending = copied ?? this.sweeps.pendingFor(any);
    // HOT: without the check of the size, an iterator would be allocated for each record.
    if (this.followers.size > 0) for (const follower of this.followers) follower.installs(next, any, pending);
    this.#note(next);
    const isEndedAgain = seen === undefined && this.#endsAgain(next, any);
    const seenDelta = this.digests.trackedDelta(seen);
    const hiddenSince = held?.filterRevision ?? 0;
    const revision = this.past.note(++this.#revision, lastTouchOf(any), seen, pending);
    const stored = held ?? next;
    if (held === undefined) {
      if (any !== undefined) join(any, next);
      next.bornRevision = revision;
      next.filterRevision = revision;
    } else this.#renew(held, next, revision, seen === held);
    stored.origin.log.insert(stored.seq, stored);
    this.#moveTo(stored, revision);
    if (stored.body !== BODY.ENTRY) this.#addTombstone(stored, isEndedAgain, time);
    // This is done even if the filterable fields are unchanged, because the policy may now hide a record that was visible before.
    if (!this.#review(stored.key, seen, seenDelta, stored)) stored.filterRevision = wasSeen(seen, pending) ? revision : hiddenSince;
    return true;
  }

  /** Replaces the content of a stored record with the content of a newer record. */
  #renew(held: StoredRecord, next: StoredRecord, revision: number, isVisible: boolean): void {
    const oldSeq = held.seq;
    if (held.sizeBytes > 0) this.slab.free(held.at, held.sizeBytes);
    const wasEntry = held.body === BODY.ENTRY;
    const isFilterChange = held.filterSeq !== next.filterSeq;
    const before = { traits: held.traits, scope: held.scope, contentBytes: held.contentBytes };
    if (!wasEntry) this.#tombstones.count -= 1;
    held.become(next);
    if (oldSeq !== held.seq) held.origin.log.retire(oldSeq);
    if (!wasEntry || held.body !== BODY.ENTRY) held.bornRevision = revision;
    if (isFilterChange || !wasEntry) held.filterRevision = revision;
    if (held.peers !== undefined) held.peers.sort(compareForView);
    if (isVisible) this.lookup.update(held, before);
  }

  /**
   * Replaces all records stored for the key with one record, regardless of their origins and seqs. Used for a record from another server's view of
   * the key, when this replica knows nothing else about the key.
   */
  supersede(next: StoredRecord, time: Time): void {
    const seen = this.lookup.find(next.key);
    const any = this.#any(next.key);
    for (const follower of this.followers) follower.supersedes(next, any);
    const seenDelta = this.digests.trackedDelta(seen);
    const isEndedAgain = seen === undefined && this.#endsAgain(next, any);
    const [hiddenSince, oldSeq] = [any?.filterRevision ?? 0, any?.seq];
    const revision = this.past.note(++this.#revision, lastTouchOf(any), seen);
    const isHeld = any?.origin === next.origin;
    const stored = isHeld ? any : next;
    if (isHeld) this.#renew(any, next, revision, seen === any);
    else {
      next.bornRevision = seen === undefined ? revision : (any?.bornRevision ?? revision);
      next.filterRevision = revision;
      if (any !== undefined) this.#take(any);
    }
    if (!isHeld || oldSeq !== next.seq) stored.origin.log.insert(stored.seq, stored);
    this.#moveTo(stored, revision);
    if (stored.body !== BODY.ENTRY) this.#addTombstone(stored, isEndedAgain, time);
    if (!this.#review(stored.key, seen, seenDelta, stored)) stored.filterRevision = seen === undefined ? hiddenSince : revision;
  }

  /** Whether a record unregisters a key that is not visible, and for whose removal readers received another cause. */
  #endsAgain({ body }: StoredRecord, any: StoredRecord | undefined): boolean {
    if (body !== BODY.UNREGISTERED || any === undefined || any.body === BODY.ENTRY) return false;
    return (this.causes.get(any) ?? causeOf(any)) !== CAUSE.UNREGISTERED;
  }

  #addTombstone(stored: StoredRecord, isEndedAgain: boolean, time: Time): void {
    this.#tombstones.add(stored, time);
    if (isEndedAgain) this.endedAgain.add(stored);
    else this.endedAgain.delete(stored);
  }

  /** Touches a record without replacing it, because readers may now see another view of its key. The reason may be a pending touch of the key. */
  touch(stored: StoredRecord, pending = this.sweeps.pendingWith(stored)): void {
    for (const follower of this.followers) follower.touches(stored, pending);
    this.#touch(stored, pending);
  }

  #touch(stored: StoredRecord, pending: PendingTouch): void {
    const seen = this.lookup.find(stored.key);
    const seenDelta = this.digests.trackedDelta(seen);
    const hiddenSince = stored.filterRevision;
    const revision = this.past.note(++this.#revision, lastTouchOf(stored), seen, pending);
    // The record's origin may now be in a later generation. If a node's stamps are equal, the later generation comes first.
    if (pending.before === "renamed") stored.peers?.sort(compareForView);
    stored.filterRevision = revision;
    this.#moveTo(stored, revision);
    if (!this.#review(stored.key, seen, seenDelta, stored) && !wasSeen(seen, pending)) stored.filterRevision = hiddenSince;
    if (pending.since !== NO_REVISION) this.past.touched(revision, this.lookup.find(stored.key), pending);
  }

  /** Ends a record that a whole transfer of its origin did not list, because its tombstone was collected before this node received the removal. */
  withdraw(stored: StoredRecord, time: Time, pending = this.sweeps.pendingFor(stored)): void {
    for (const follower of this.followers) follower.withdraws(stored, pending);
    if (stored.sizeBytes > 0) this.slab.free(stored.at, stored.sizeBytes);
    stored.expire();
    this.#tombstones.add(stored, time);
    this.#touch(stored, pending);
  }

  /**
   * Drops a tombstone that has the same seq as the given entry. The entry was ended here, but is live on its origin, so it can then be installed.
   */
  undoEnd({ key, origin, seq }: StoredRecord): void {
    const held = recordOf(this.#any(key), origin);
    if (held?.seq === seq && held.body !== BODY.ENTRY) this.drop(held);
  }

  /** Removes a record that is not visible: a collected tombstone, or a record of a forgotten origin. */
  drop(stored: StoredRecord): void {
    for (const follower of this.followers) follower.drops(stored);
    this.#collectedRevision = Math.max(this.#collectedRevision, stored.revision);
    this.#take(stored);
  }

  #take(stored: StoredRecord): void {
    const { seq, revision } = stored;
    if (stored.body !== BODY.ENTRY) this.#tombstones.count -= 1;
    if (stored.sizeBytes > 0) this.slab.free(stored.at, stored.sizeBytes);
    stored.seq = -1;
    stored.revision = -1;
    stored.origin.log.retire(seq);
    this.#byRevision.retire(revision);
    const rest = leave(stored);
    if (this.#absent.get(stored.key) === stored) this.#absent.replace(stored.key, rest);
  }

  /** Assigns a revision without touching a record. */
  passRevision(): number {
    for (const follower of this.followers) follower.passes();
    return this.past.note(++this.#revision, 0, undefined);
  }

  // ---- making a copy of another replica ----
  /**
   * Stores a record of the copied replica with its bookkeeping, in place of the stored record of its origin. Must be called in order of revision.
   */
  place(next: StoredRecord): void {
    this.unplace(next.key, next.origin);
    const any = this.#any(next.key);
    if (any !== undefined) join(any, next);
    next.origin.log.insert(next.seq, next);
    this.#byRevision.append(next.revision, next);
    this.#note(next);
    if (next.body !== BODY.ENTRY) this.#tombstones.add(next, BEFORE_ALL);
    this.#review(next.key, this.lookup.find(next.key), undefined, next);
  }

  /** Removes the record of an origin for this key, because the copied replica no longer has this record. */
  unplace(key: KeyText, origin: Origin): void {
    const held = recordOf(this.#any(key), origin);
    if (held === undefined) return;
    const seen = this.lookup.find(key);
    const rest = this.records(key).find((stored) => stored !== held);
    this.#take(held);
    if (rest !== undefined) this.#review(key, seen, undefined, rest);
    else if (seen !== undefined) this.lookup.remove(seen);
  }

  /** Completes the copy. The copy does not know earlier views, so a reader with an earlier position may receive more changes than it needs. */
  startAt({ revision, collectedRevision, forgotten, localNamespaces }: CopyStart): void {
    this.#revision = revision;
    this.#collectedRevision = collectedRevision;
    this.past.startAt(revision);
    this.emptied.startAt(revision);
    this.resumeForgotten(forgotten);
    for (const namespace of localNamespaces) this.localNamespaces.add(namespace);
  }

  // ---- reading in order of change ----
  /** Visits records touched after `revision`, oldest first, until `visit` returns false. */
  changesSince(revision: number, visit: (stored: StoredRecord, revision: number) => boolean): void {
    this.#byRevision.forEachSince(revision, visit);
  }

  /** Returns the namespaces touched since the last call. Watches of these namespaces must be notified. */
  takeTouched(): ReadonlySet<string> {
    const touched = this.#touched;
    if (touched.size > 0) this.#touched = new Set();
    return touched;
  }

  /**
   * Collects tombstones that are older than their ttl, or that exceed the number max(minTombstones, live records). Starts with the oldest, and
   * collects at most `maxCount`. Returns the keys of this node's own tombstones, so that the journal can drop them.
   */
  collect(time: Time, maxCount: number, by: "age" | "count" = "age"): readonly KeyText[] {
    const own: KeyText[] = [];
    this.#tombstones.collect(time, { liveCount: this.lookup.size, maxCount, by }, (stored) => {
      if (stored.origin === this.self) {
        // The key was put again, and its new row is being written to the journal, so the journal must not drop that row.
        if (this.#staging.find(stored.key) !== undefined) return false;
        own.push(stored.key);
      }
      stored.origin.floor = Math.max(stored.origin.floor, stored.seq);
      this.drop(stored);
      return true;
    });
    applyMarks(this);
    return own;
  }

  nextCollectMonoMs(): number {
    return this.#tombstones.nextCollectMonoMs();
  }

  /** Restores the list of origins that an earlier process forgot. This must be called before any record from another node is stored. */
  resumeForgotten(ids: readonly string[]): void {
    for (const id of ids) this.#origins.remember(id);
  }

  /**
   * Forgets an origin (semantics.md, Orphans) and drops `maxCount` of its records now; `sweep` drops the rest. `isOver` means that the origin's node
   * will never return as this origin.
   */
  forgetOrigin(origin: Origin, time: Time, isOver = false, maxCount = Number.POSITIVE_INFINITY): void {
    assert(origin !== this.self, "the origin to forget is this node");
    // Two origins may have ended each other's records, so only one origin is removed at a time.
    while (this.isForgetting) this.sweep(Number.POSITIVE_INFINITY, time);
    this.setLife(origin, "hidden");
    this.forgetName(origin);
    this.sweeps.dropClosing(origin);
    this.forgottenCount += 1;
    this.#forgetting = new OriginRemoval(origin, isOver, this, (stored) => this.drop(stored));
    this.sweep(maxCount, time);
  }

  /** The part of `forgetOrigin` that a copy also executes. The copy receives each dropped record separately. */
  forgetName(origin: Origin): void {
    for (const follower of this.followers) follower.forgets(origin);
    this.#origins.forget(origin);
  }

  /** Whether this replica still has records of a forgotten origin. */
  get isForgetting(): boolean {
    return this.#forgetting !== undefined;
  }

  /** Executes at most `maxCount` pending touches and removals. Returns whether there was any pending work. */
  sweep(maxCount: number, time: Time): boolean {
    const swept = this.sweeps.step(maxCount, time);
    if (this.#forgetting === undefined || this.sweeps.isOwed) return swept > 0;
    this.#forgetting.step(maxCount - swept, time);
    if (this.#forgetting.isDone) this.#forgetting = undefined;
    return true;
  }

  /** Permits frames from a forgotten origin again, starting from 0, because its node is a live member again (semantics.md, Orphans). */
  restoreOrigin(nodeId: string, generation: number): void {
    const id = `${nodeId}/${generation}`;
    for (const follower of this.followers) follower.restoresOrigin(id);
    this.#origins.restoreOrigin(id);
  }

  /** Changes an origin's state, and touches the origin's records so that readers read their keys again. */
  setLife(origin: Origin, life: OriginStatus): void {
    if (origin.life === life) return;
    origin.life = life;
    for (const stored of origin.log.list()) if (stored.body === BODY.ENTRY) this.touch(stored);
  }

  #stage(fields: StoredRecordFields): StoredRecord {
    if (fields.orders !== undefined) this.hasOrders = true;
    return this.#staging.add(new StoredRecord(fields));
  }

  #note({ scope, origin, namespace, orders }: StoredRecord): void {
    if (scope === SCOPE.LOCAL && origin === this.self) this.localNamespaces.add(namespace);
    if (orders !== undefined) this.hasOrders = true;
  }

  #any(key: KeyText): StoredRecord | undefined {
    const seen = this.lookup.find(key);
    return seen instanceof StoredRecord ? seen : this.#absent.get(key);
  }

  #moveTo(stored: StoredRecord, revision: number): void {
    const old = stored.revision;
    stored.revision = revision;
    if (old > 0) this.#byRevision.retire(old);
    this.#byRevision.append(revision, stored);
    this.#touched.add(stored.namespace);
  }

  /** Updates the index, the list of absent keys and the digests for the key's visible record. Returns whether a record is visible. */
  #review(key: KeyText, seen: CatalogRecord | undefined, seenDelta: string | undefined, any: StoredRecord): boolean {
    const winner = this.winner(any);
    if (winner !== undefined) {
      winner.show();
      if (seen !== winner) this.lookup.put(winner);
      this.#absent.replace(key, undefined);
    } else {
      if (seen !== undefined && this.lookup.remove(seen) === 0) this.emptied.note(seen.namespace, this.#revision);
      this.#absent.replace(key, any);
    }
    this.digests.viewChanged(any, seenDelta, this.digests.trackedDelta(winner));
    return winner !== undefined;
  }
}
