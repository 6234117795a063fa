/**
 * The replica, ordered by change: the newest record for each origin and key, the order in which they changed here, and the version vector
 * (docs/architecture.md, The idea). Records of this node are staged, and become visible only when their journal batch is on disk.
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

/** A copy collects nothing by age. */
const BEFORE_ALL: Time = { monoMs: 0, wallMs: 0 };

export interface ReplicaOptions extends TombstonesOptions {
  readonly generation: number;
  /** The highest seq that this origin ever gave out. Each seq is used once. */
  readonly lastSeq: number;
  readonly floor: number;
  /** The cluster and region of this node. Required as soon as there are links. */
  readonly place?: OriginLocation;
  /** Number of touches for which the earlier view is remembered. */
  readonly pastTouches?: number;
}

/** Hears of each change of a replica just before it is made, in order. That is enough to keep an exact copy (`src/catalog/copy/`). */
export interface ReplicaObserver {
  /** A record is taken in. `any` is a held record of its key. */
  installs(next: StoredRecord, any: StoredRecord | undefined, owed: PendingTouch): void;
  /** A record is taken in, in the place of all that is held of its key. `any` is one of these. */
  supersedes(next: StoredRecord, any: StoredRecord | undefined): void;
  touches(stored: StoredRecord, owed: PendingTouch): void;
  withdraws(stored: StoredRecord, owed: PendingTouch): void;
  drops(stored: StoredRecord): void;
  /** A revision passes at which no record is touched. */
  passes(): void;
  forgets(origin: Origin): void;
  restoresOrigin(id: string): void;
}

/** Where a copy begins. */
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
  /** Touches and removals that are owed to many records. `sweep` does them. */
  readonly sweeps = new TouchSweeps(this, () => this.passRevision());
  /** Why keys are gone, where the records do not say it: in what is told by another place. */
  readonly causes = new WeakMap<StoredRecord, ChangeCause>();
  /** Unregistered keys that nobody saw any more, because they had expired: readers are told of them once more, since they may keep for a while what expired. */
  readonly endedAgain = new WeakSet<StoredRecord>();
  /** They hear of every change from when they are added. */
  readonly followers = new Set<ReplicaObserver>();
  /** Whether a record with an order about maintenance has been here since the start. */
  hasOrders = false;
  #forgetting: OriginRemoval | undefined;
  /** Number of origins forgotten in this process. */
  forgottenCount = 0;
  readonly #tombstones: Tombstones;
  /** Whether a record may be seen at all. A record that the owner rule denies is held, but hidden. */
  #admits: ((stored: StoredRecord) => boolean) | undefined;
  readonly #origins = new OriginTable();
  /** A stored record of every key that has records but no view: tombstones, hidden orphans. */
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

  /** The number of this node's last change. */
  get revision(): number {
    return this.#revision;
  }

  /** A cursor below this revision may have missed a removal whose tombstone was collected, so it needs a snapshot. */
  get collectedRevision(): number {
    return this.#collectedRevision;
  }

  get origins(): ReadonlyMap<string, Origin> {
    return this.#origins.known;
  }

  get lastSeq(): number {
    return this.#staging.lastSeq;
  }

  /** Records that are held, also those that nobody is shown. */
  get recordCount(): number {
    return this.#byRevision.size;
  }

  get tombstoneCount(): number {
    return this.#tombstones.count;
  }

  /** Ids of forgotten origins. A cursor that names one needs a snapshot. */
  get forgotten(): ReadonlyMap<string, true> {
    return this.#origins.forgotten;
  }

  /** The forgotten origins that may come back, and marks. Code that notes a mark calls `applyMarks`. */
  get lost(): LostOrigins {
    return this.#origins.lost;
  }

  /** The origin of that name, which is added if it is unknown. Its first known place stays. */
  origin(nodeId: string, generation: number, place?: OriginLocation): Origin {
    return this.#origins.take(nodeId, generation, place);
  }

  /** The record that readers see for the key. */
  view(key: KeyText): CatalogRecord | undefined {
    return this.lookup.find(key);
  }

  /** This node's own newest record of the key: the staged one if there is one. */
  own(key: KeyText): StoredRecord | undefined {
    return this.#staging.find(key) ?? recordOf(this.#any(key), this.self);
  }

  /**
   * The newest orders that records of the key carry (semantics.md, Maintenance): of any origin of the key's cluster, staged ones included, and of
   * entries and tombstones alike. So the next registration of the key goes by them, at whatever node. HOT: where no record has an order, it looks nothing up.
   */
  newestOrders(key: KeyText): MaintenanceOverrides | undefined {
    if (!this.hasOrders) return undefined;
    let newest = this.own(key)?.orders;
    for (const record of this.records(key)) if (isOfKeysCluster(record)) newest = newerOverrides(newest, record.orders);
    return newest;
  }

  /** All records of the key, in view order, without staged ones. */
  records(key: KeyText): readonly StoredRecord[] {
    const any = this.#any(key);
    return any === undefined ? [] : (any.peers ?? [any]);
  }

  /** The record that readers see for a stored record's key. */
  winner(stored: StoredRecord): StoredRecord | undefined {
    if (stored.peers !== undefined) return winnerOf(stored.peers, this.#admits);
    return stored.body === BODY.ENTRY && isShown(stored) && this.isAdmitted(stored) ? stored : undefined;
  }

  /** Whether the owner rule lets a record be seen; for a tombstone, whether the entry that it ended could be seen. */
  isAdmitted(stored: StoredRecord): boolean {
    return this.#admits === undefined || this.#admits(stored);
  }

  /** Sets which records may be seen. The caller touches the records whose verdict changes. */
  setAdmission(admits: ((stored: StoredRecord) => boolean) | undefined): void {
    this.#admits = admits;
  }

  /** Gives this node's own origin another generation; a part of `startNewGeneration`. */
  renameSelf(generation: number): void {
    this.#origins.rename(this.self, generation);
  }

  // ---- own records: stage, commit, abort ----
  /** Numbers a put and stages it. It stays invisible until `commit`. */
  stagePut(put: OwnPut): StoredRecord {
    const before = this.own(put.key);
    const wasLive = before !== undefined && before.body === BODY.ENTRY;
    const seq = this.#staging.nextSeq();
    // HOT: one literal, as in `endOf`; spreading `put` into it makes half a kilobyte of garbage an entry (bench/register.ts).
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
   * Numbers and stages a tombstone of this node for a key that is held here, of any origin. `unregistered` hides older records of every
   * origin, so its reach is as wide as any of theirs. `expired` ends this node's own record and takes its stamp. It also carries the newest
   * known unregister of the key, because a node that hears of that unregister later would show older records again; and the orders about its
   * maintenance.
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

  /** Staged records, oldest first. */
  get staged(): readonly StoredRecord[] {
    return this.#staging.storedRecords;
  }

  /** The batch with every staged record of seq ≤ `through` is on disk: makes them visible, in order. */
  commit(through: number, time: Time): void {
    for (const stored of this.#staging.take(through)) this.install(stored, time);
    this.self.through = Math.max(this.self.through, through);
  }

  /** The batch was refused: all staged records are dropped. Their seqs stay used (semantics.md, Durability). */
  abort(): void {
    for (const stored of this.#staging.take(this.lastSeq)) if (stored.sizeBytes > 0) this.slab.free(stored.at, stored.sizeBytes);
  }

  /** A call failed in the middle: the records that it staged, above this seq, are dropped. Earlier staged records stay. */
  unstage(after: number): void {
    for (const stored of this.#staging.takeAfter(after)) if (stored.sizeBytes > 0) this.slab.free(stored.at, stored.sizeBytes);
  }

  // ---- any record, by whatever way it came ----
  /**
   * Takes in a record that is no longer staged, or was received, or comes from the journal. A record that is not newer than the held one of
   * its origin is skipped. Does not move the version vector. Returns whether anything changed. A copy is told what is owed to the key.
   */
  install(next: StoredRecord, time: Time, told?: PendingTouch): boolean {
    const seen = this.lookup.find(next.key);
    const any = seen instanceof StoredRecord ? seen : this.#absent.get(next.key);
    const held = recordOf(any, next.origin);
    if (held !== undefined && held.seq >= next.seq) {
      if (next.sizeBytes > 0) this.slab.free(next.at, next.sizeBytes);
      return false;
    }
    const owed = told ?? this.sweeps.owedTo(any);
    // HOT: without the look at the size, each record makes an iterator.
    if (this.followers.size > 0) for (const follower of this.followers) follower.installs(next, any, owed);
    this.#note(next);
    const isEndedAgain = seen === undefined && this.#endsAgain(next, any);
    const seenDelta = this.digests.trackedDelta(seen);
    const hiddenSince = held?.filterRevision ?? 0;
    const revision = this.past.note(++this.#revision, lastTouchOf(any), seen, owed);
    const stored = held ?? next;
    if (held === undefined) {
      if (any !== undefined) join(any, next);
      next.bornRevision = revision;
      next.filterRevision = revision;
    } else this.#renew(held, next, revision, seen === held);
    stored.origin.log.insert(stored.seq, stored);
    this.#moveTo(stored, revision);
    if (stored.body !== BODY.ENTRY) this.#addTombstone(stored, isEndedAgain, time);
    // This also holds when the filterable fields are unchanged: policy may now hide a record that it showed before.
    if (!this.#review(stored.key, seen, seenDelta, stored)) stored.filterRevision = wasSeen(seen, owed) ? revision : hiddenSince;
    return true;
  }

  /** Replaces the content of a held stored record with that of a newer record. */
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
   * Takes in a record in the place of all that is held of its key, whatever its origin and its number: what another place shows of the key, of
   * which only that is known.
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

  /** Whether a record says of a key that nobody sees that it was unregistered, where readers were told of another end. */
  #endsAgain({ body }: StoredRecord, any: StoredRecord | undefined): boolean {
    if (body !== BODY.UNREGISTERED || any === undefined || any.body === BODY.ENTRY) return false;
    return (this.causes.get(any) ?? causeOf(any)) !== CAUSE.UNREGISTERED;
  }

  #addTombstone(stored: StoredRecord, isEndedAgain: boolean, time: Time): void {
    this.#tombstones.add(stored, time);
    if (isEndedAgain) this.endedAgain.add(stored);
    else this.endedAgain.delete(stored);
  }

  /** A touch without a new record: the view of its key may have changed, through an owed change or another one. */
  touch(stored: StoredRecord, owed = this.sweeps.owedBeside(stored)): void {
    for (const follower of this.followers) follower.touches(stored, owed);
    this.#touch(stored, owed);
  }

  #touch(stored: StoredRecord, owed: PendingTouch): void {
    const seen = this.lookup.find(stored.key);
    const seenDelta = this.digests.trackedDelta(seen);
    const hiddenSince = stored.filterRevision;
    const revision = this.past.note(++this.#revision, lastTouchOf(stored), seen, owed);
    // Its origin may be in a later generation now. Of equal stamps of one node the later generation comes first.
    if (owed.before === "renamed") stored.peers?.sort(compareForView);
    stored.filterRevision = revision;
    this.#moveTo(stored, revision);
    if (!this.#review(stored.key, seen, seenDelta, stored) && !wasSeen(seen, owed)) stored.filterRevision = hiddenSince;
    if (owed.since !== NO_REVISION) this.past.touched(revision, this.lookup.find(stored.key), owed);
  }

  /** Ends a record that a whole transfer of its origin did not list: its tombstone was collected before we heard of the removal. */
  withdraw(stored: StoredRecord, time: Time, owed = this.sweeps.owedTo(stored)): void {
    for (const follower of this.followers) follower.withdraws(stored, owed);
    if (stored.sizeBytes > 0) this.slab.free(stored.at, stored.sizeBytes);
    stored.expire();
    this.#tombstones.add(stored, time);
    this.#touch(stored, owed);
  }

  /** Makes room for an entry in the place of a tombstone with the same number: it was ended here, but lives at its origin. */
  undoEnd({ key, origin, seq }: StoredRecord): void {
    const held = recordOf(this.#any(key), origin);
    if (held?.seq === seq && held.body !== BODY.ENTRY) this.drop(held);
  }

  /** Removes an invisible record without a trace: a collected tombstone, or a record of a forgotten origin. */
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

  /** A revision at which no record is touched. */
  passRevision(): number {
    for (const follower of this.followers) follower.passes();
    return this.past.note(++this.#revision, 0, undefined);
  }

  // ---- a copy of another replica, while it is made ----
  /** Holds a record as the other replica holds it, with its bookkeeping, in the place of what is held of its origin. In order of revision. */
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

  /** The other replica holds nothing more of the origin for this key. */
  unplace(key: KeyText, origin: Origin): void {
    const held = recordOf(this.#any(key), origin);
    if (held === undefined) return;
    const seen = this.lookup.find(key);
    const rest = this.records(key).find((stored) => stored !== held);
    this.#take(held);
    if (rest !== undefined) this.#review(key, seen, undefined, rest);
    else if (seen !== undefined) this.lookup.remove(seen);
  }

  /** The copy is whole. Of what was seen before it knows nothing, so that a reader from before is told more than it needs. */
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

  /** Namespaces touched since the last call. Their watchers must be woken. */
  takeTouched(): ReadonlySet<string> {
    const touched = this.#touched;
    if (touched.size > 0) this.#touched = new Set();
    return touched;
  }

  /**
   * Collects tombstones older than their ttl, or above max(minTombstones, live records), oldest first; at most `maxCount`. Returns the keys
   * of this node's own, so that the journal can drop them.
   */
  collect(time: Time, maxCount: number, by: "age" | "count" = "age"): readonly KeyText[] {
    const own: KeyText[] = [];
    this.#tombstones.collect(time, { liveCount: this.lookup.size, maxCount, by }, (stored) => {
      if (stored.origin === this.self) {
        // The key was put again, and the new row is on its way to the journal, so the journal must not drop the row.
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

  /** Origins forgotten in an earlier process stay forgotten. Call this before any record of another node is here. */
  resumeForgotten(ids: readonly string[]): void {
    for (const id of ids) this.#origins.remember(id);
  }

  /**
   * Forgets an origin (semantics.md, Orphans) and drops `maxCount` of its records now; `sweep` drops the rest. `isOver`: its node never
   * comes back as this origin.
   */
  forgetOrigin(origin: Origin, time: Time, isOver = false, maxCount = Number.POSITIVE_INFINITY): void {
    assert(origin !== this.self, "a node cannot forget itself");
    // One of them may have ended records that the other forgot.
    while (this.isForgetting) this.sweep(Number.POSITIVE_INFINITY, time);
    this.setLife(origin, "hidden");
    this.forgetName(origin);
    this.sweeps.dropClosing(origin);
    this.forgottenCount += 1;
    this.#forgetting = new OriginRemoval(origin, isOver, this, (stored) => this.drop(stored));
    this.sweep(maxCount, time);
  }

  /** The part of `forgetOrigin` that a copy does itself. It is told of the records one by one. */
  forgetName(origin: Origin): void {
    for (const follower of this.followers) follower.forgets(origin);
    this.#origins.forget(origin);
  }

  /** Whether records of a forgotten origin are still here. */
  get isForgetting(): boolean {
    return this.#forgetting !== undefined;
  }

  /** Does at most `maxCount` of the work that is owed to many records. Returns whether there was any. */
  sweep(maxCount: number, time: Time): boolean {
    const swept = this.sweeps.step(maxCount, time);
    if (this.#forgetting === undefined || this.sweeps.isOwed) return swept > 0;
    this.#forgetting.step(maxCount - swept, time);
    if (this.#forgetting.isDone) this.#forgetting = undefined;
    return true;
  }

  /** A forgotten origin is a live member again: its frames are accepted, from 0 on (semantics.md, Orphans). */
  restoreOrigin(nodeId: string, generation: number): void {
    const id = `${nodeId}/${generation}`;
    for (const follower of this.followers) follower.restoresOrigin(id);
    this.#origins.restoreOrigin(id);
  }

  /** Changes an origin's state and touches its records, so that readers visit their keys again. */
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

  /** Updates lookup, absent list and digests for the key's winner. Returns whether there is one. */
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
