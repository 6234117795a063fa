/**
 * The owners that are attached to this node. The node lists a shard in the record of its owner before the owner can act, and grants each owner a time
 * for which it can act, as `Campaigns` does for leaders. The roles of controller and participant come from Apache Helix (Gopalakrishna et al., SoCC
 * 2012).
 */
import { NEVER, type Time } from "../../lib/machine.ts";
import type { StoreCondition } from "../../store/control/store.ts";
import type { CopiedItem } from "../leadership/copy.ts";
import type { Leadership, OwnSession } from "../leadership/machine.ts";
import { encodeRecord, SESSIONS } from "../leadership/records.ts";
import { RETRY_MS, VALIDITY } from "../leadership/session.ts";
import { MAX_CHANGED_ROWS } from "./change.ts";
import {
  OWNER_FACTS,
  type OwnedShard,
  type OwnerFacts,
  type OwnerSink,
  type ShardInput,
  type ShardOutput,
  type ShardReport,
} from "./io-types.ts";
import type { ShardMap, ShardMaps, ShardRow } from "./maps.ts";
import { NO_LOAD, type OwnerLoad, type OwnerRecord, ownerJson, ownerKey, rowKey } from "./records.ts";

/** Minimum time (ms) between two writes of the load of an owner. */
const LOAD_MS = 5000;
/** The load is written if it has changed by more than this share. */
const LOAD_CHANGE = 0.1;
/** Number of shards whose loads are written. */
const HOTTEST = 20;

type OwnerMessage = Extract<ShardInput, { readonly kind: "owner" }>;

export interface OwnersOptions {
  readonly machine: Leadership;
  readonly maps: ShardMaps;
  readonly nodeId: string;
  readonly leaseMs: number;
  readonly isOwnStore: boolean;
}

interface Attachment {
  readonly sink: OwnerSink;
  readonly namespace: string;
  readonly instance: string;
  readonly key: string;
  facts: OwnerFacts;
  /** The load in the last report of the owner, and the monotonic time (ms) from which it may be written. */
  load: OwnerLoad;
  loadDueMs: number;
  /** Monotonic time (ms) of the last message, and the time at which all validities that were sent to the owner are over. */
  heardMs: number;
  grantedMs: number;
  /** Whether the stream has ended, or the owner was silent for too long, and whether the owner has reported that it acts no more. */
  isEnded: boolean;
  hasStopped: boolean;
  /** The shards for which the owner is ready. */
  prepared: Set<number>;
  /** The shards that the owner has dropped, and that its record still lists. */
  readonly dropped: Set<number>;
  /**
   * The record's `created` when the owner last reported that its validity was over, by dropping a shard that it owned. The record must be replaced, so that
   * its shards get new fences.
   */
  lapsedCreated: number;
  /** The shards that the owner did not drop in time: the time at which its last validity for them is over. */
  readonly lostUntilMs: Map<number, number>;
  /** The values on which the last look depended: the rows of the owner, the time to finish its work, and its record. */
  seen: readonly unknown[];
  /** The states that were sent to the owner. */
  told: ReadonlyMap<number, OwnedShard>;
  /** Monotonic time (ms) before which no request is sent. `NEVER` while a request is pending. A change of the record ends the wait. */
  retryMs: number;
  /** The record's version at the last request. */
  askedVersion: number;
  /** Monotonic time (ms) at which the attachment must be looked at without an input. */
  dueMs: number;
}

export class Owners {
  readonly #options: OwnersOptions;
  readonly #attachments = new Map<OwnerSink, Attachment>();
  /** The attachments of each owner, in order. Only the first one is active. */
  readonly #queues = new Map<string, Attachment[]>();
  /** The session of the last look. */
  #sessionName = "";
  #storeEpoch: number | undefined;
  #lookedMs = Number.NEGATIVE_INFINITY;
  #isStopping = false;

  constructor(options: OwnersOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#attachments.size;
  }

  nextDeadlineMs(): number {
    // Everything that was due at the last look has been done, or waits for an answer.
    return this.#attachments.values().reduce((next, { dueMs }) => (dueMs > this.#lookedMs ? Math.min(next, dueMs) : next), NEVER);
  }

  /** Applies a message of an owner, or the end of its stream. */
  take(input: Exclude<ShardInput, { readonly kind: "changeShards" }>, time: Time, out: ShardOutput[]): void {
    if (input.kind === "ownerEnded") {
      const ended = this.#attachments.get(input.owner);
      if (ended === undefined) return;
      ended.isEnded = true;
      ended.hasStopped ||= input.hasStopped;
      ended.dueMs = time.monoMs;
      return;
    }
    if (this.#isStopping) {
      this.#refuse(input.owner, "this node is stopping", out);
      return;
    }
    const known = this.#attachments.get(input.owner);
    if (known?.isEnded === true) {
      this.#refuse(input.owner, "its earlier attachment to this node, which ends", out);
      return;
    }
    const attachment = known ?? this.#attach(input);
    attachment.heardMs = time.monoMs;
    const { facts, prepared, dropped, reports } = input;
    if (reports.length > 0) attachment.load = loadOf(reports);
    const isNews = prepared.length + dropped.length + reports.length > 0 || !isSameFacts(facts, attachment.facts);
    attachment.facts = facts;
    for (const id of prepared) attachment.prepared.add(id);
    for (const id of dropped) {
      const shard = attachment.told.get(id);
      if (isEnding(shard)) attachment.dropped.add(id);
      else if (isActing(shard)) attachment.lapsedCreated = this.#ownRecord(attachment)?.created ?? attachment.lapsedCreated;
    }
    if (isNews) attachment.dueMs = time.monoMs;
    this.#tell(attachment, attachment.told, time, out, true);
  }

  #refuse(owner: OwnerSink, waitsFor: string, out: ShardOutput[]): void {
    out.push({ kind: "ownerNews", owner, news: { validForMs: 0, shards: [], waitsFor } });
  }

  /** Extends no validity any more, and removes the records when the validities are over. */
  stop({ monoMs }: Time): void {
    this.#isStopping = true;
    for (const attachment of this.#attachments.values()) {
      attachment.isEnded = true;
      attachment.dueMs = monoMs;
    }
  }

  /** Looks at the attachments of these namespaces, and at those that are due. */
  look(touched: ReadonlySet<string>, time: Time, out: ShardOutput[]): void {
    const { machine } = this.#options;
    const own = machine.ownSession(time);
    this.#lookedMs = time.monoMs;
    const storeEpoch = machine.store?.epoch;
    // A lost session or another store concerns all owners. The end of the session's time does not: their validities are over then.
    const isOther = storeEpoch !== this.#storeEpoch || (own !== undefined && own.name !== this.#sessionName);
    if (own !== undefined) this.#sessionName = own.name;
    this.#storeEpoch = storeEpoch;
    for (const namespace of touched)
      for (const [instance, { value }] of this.#options.maps.owners(namespace))
        if (value?.session === this.#sessionName && !this.#queues.has(ownerKey(namespace, instance)))
          this.#disown(namespace, instance, value);
    for (const attachment of this.#attachments.values())
      if (isOther || time.monoMs >= attachment.dueMs || (touched.has(attachment.namespace) && this.#isNews(attachment)))
        this.#decide(attachment, own, time, out);
  }

  /** Removes a record that was written when its owner had already gone. */
  #disown(namespace: string, instance: string, facts: OwnerFacts): void {
    const gone = this.#attach({ owner: () => {}, namespace, instance, facts });
    gone.isEnded = true;
    gone.hasStopped = true;
  }

  #attach({ owner: sink, namespace, instance, facts }: Pick<OwnerMessage, "facts" | "instance" | "namespace" | "owner">): Attachment {
    const key = ownerKey(namespace, instance);
    const attachment: Attachment = {
      sink,
      namespace,
      instance,
      key,
      facts,
      load: NO_LOAD,
      loadDueMs: Number.NEGATIVE_INFINITY,
      heardMs: 0,
      grantedMs: Number.NEGATIVE_INFINITY,
      isEnded: false,
      hasStopped: false,
      prepared: new Set(),
      dropped: new Set(),
      lapsedCreated: 0,
      lostUntilMs: new Map(),
      seen: [],
      told: new Map(),
      retryMs: Number.NEGATIVE_INFINITY,
      askedVersion: -1,
      dueMs: Number.NEGATIVE_INFINITY,
    };
    this.#attachments.set(sink, attachment);
    const queue = this.#queues.get(key) ?? [];
    queue.push(attachment);
    this.#queues.set(key, queue);
    return attachment;
  }

  /** Whether the owner must be looked at. The rows and records of other owners do not concern an owner that has a record. */
  #isNews(attachment: Attachment): boolean {
    const seen = this.#seenNow(attachment);
    return this.#ownRecord(attachment) === undefined || seen.some((value, i) => value !== attachment.seen[i]);
  }

  #seenNow({ namespace, instance }: Attachment): readonly unknown[] {
    const { maps } = this.#options;
    const map = maps.map(namespace);
    return [map?.rowsOf(instance), map?.set.value.drainMs, maps.owners(namespace).get(instance)];
  }

  #decide(attachment: Attachment, own: OwnSession | undefined, time: Time, out: ShardOutput[]): void {
    const item = this.#options.maps.owners(attachment.namespace).get(attachment.instance);
    attachment.seen = this.#seenNow(attachment);
    // The watch has reported the effect of the last request, or of a request of another node.
    if ((item?.version ?? 0) !== attachment.askedVersion) attachment.retryMs = Number.NEGATIVE_INFINITY;
    attachment.dueMs = attachment.isEnded ? NEVER : Math.max(attachment.grantedMs, attachment.heardMs + this.#options.leaseMs);
    const record = this.#ownRecord(attachment);
    if (time.monoMs >= attachment.dueMs) {
      // A silent owner does not act any more.
      this.#tell(attachment, new Map(), time, out);
      attachment.isEnded = true;
    }
    if (attachment.isEnded) this.#end(attachment, item, time, out);
    else if (this.#queues.get(attachment.key)?.[0] !== attachment) return;
    else if (record === undefined) this.#create(attachment, item, own, time, out);
    else this.#update(attachment, { version: item?.version ?? 0, record }, own, time, out);
  }

  /** The record of an attachment if this node has written it in its current session. Undefined if the record must be replaced. */
  #ownRecord({ namespace, instance, key }: Attachment, attachment = this.#queues.get(key)?.[0]): OwnerRecord | undefined {
    const record = this.#options.maps.owners(namespace).get(instance)?.value;
    const isOwn = attachment !== undefined && record?.session === this.#sessionName && record.created !== attachment.lapsedCreated;
    return isOwn ? record : undefined;
  }

  /** Removes the record when the owner acts no more, and forgets the attachment when the record is gone. */
  #end(attachment: Attachment, item: CopiedItem<OwnerRecord> | undefined, time: Time, out: ShardOutput[]): void {
    const { sink, key, hasStopped, grantedMs } = attachment;
    const queue = this.#queues.get(key) ?? [];
    const isFirst = queue[0] === attachment;
    const isOurs = isFirst && item?.value?.session === this.#sessionName;
    if (isOurs && !hasStopped && time.monoMs < grantedMs) attachment.dueMs = grantedMs;
    else if (isOurs && time.monoMs >= attachment.retryMs) {
      this.#ask(attachment, [{ key, version: item.version }], undefined, item.version, out);
    } else if (!isOurs && attachment.retryMs !== NEVER) {
      this.#attachments.delete(sink);
      queue.splice(queue.indexOf(attachment), 1);
      if (queue[0] === undefined) this.#queues.delete(key);
      else queue[0].dueMs = time.monoMs;
    } else attachment.dueMs = attachment.retryMs;
  }

  /** Writes a new record of an owner. It replaces a record of this session, or of a session that has ended. */
  #create(
    attachment: Attachment,
    item: CopiedItem<OwnerRecord> | undefined,
    own: OwnSession | undefined,
    time: Time,
    out: ShardOutput[],
  ): void {
    const { maps, nodeId, leaseMs, isOwnStore } = this.#options;
    const { key, facts } = attachment;
    this.#tell(attachment, new Map(), time, out);
    attachment.prepared.clear();
    attachment.dropped.clear();
    attachment.lostUntilMs.clear();
    // In a store of its own, a node has no records of sessions. Owners of its last process can act for a lease.
    const isOurs = item?.value?.session === this.#sessionName;
    const earlierMs = isOwnStore && item !== undefined && !isOurs ? item.sinceMs + leaseMs : Number.NEGATIVE_INFINITY;
    const notBeforeMs = Math.max(attachment.retryMs, attachment.grantedMs, earlierMs);
    if (own?.condition === undefined || !maps.isRead || time.monoMs < notBeforeMs) {
      // Without the condition, the next input decides: the answer to the renewal of the session.
      attachment.dueMs = Math.min(attachment.dueMs, Math.max(notBeforeMs, time.monoMs));
      return;
    }
    const conditions = [own.condition, { key, version: item?.version ?? 0 }];
    if (item?.value !== undefined && !isOurs) conditions.push({ key: SESSIONS + item.value.session, version: 0 });
    const empty = { session: own.name, nodeId, created: 0, ...facts, load: NO_LOAD, prepared: new Set<number>(), held: new Set<number>() };
    this.#ask(attachment, conditions, empty, item?.version ?? 0, out);
  }

  #update(
    attachment: Attachment,
    { version, record }: { readonly version: number; readonly record: OwnerRecord },
    own: OwnSession | undefined,
    time: Time,
    out: ShardOutput[],
  ): void {
    const { key, facts, instance } = attachment;
    const map = this.#options.maps.map(attachment.namespace);
    const rows = map?.rowsOf(instance) ?? [];
    const told = this.#statesOf(attachment, record, map, time);
    this.#tell(attachment, told, time, out);
    const taken = rows.filter((row) => this.#mayTake(row, attachment, record)).slice(0, MAX_CHANGED_ROWS);
    const kept = attachment.dropped.size === 0 ? record.held : record.held.difference(attachment.dropped);
    const held = taken.length === 0 ? kept : kept.union(new Set(taken.map(({ id }) => id)));
    const prepared = new Set(rows.filter(({ id, next }) => next === instance && attachment.prepared.has(id)).map(({ id }) => id));
    attachment.prepared = prepared;
    const isLoadDue = time.monoMs >= attachment.loadDueMs && differs(attachment.load, record.load);
    const isKept = isSameFacts(facts, record) && isSameSet(prepared, record.prepared) && isSameSet(held, record.held);
    if (isKept && !isLoadDue) return;
    const after: OwnerRecord = { ...record, ...facts, load: isLoadDue ? attachment.load : record.load, prepared, held };
    if (own?.condition === undefined || time.monoMs < attachment.retryMs) {
      attachment.dueMs = Math.min(attachment.dueMs, Math.max(attachment.retryMs, time.monoMs));
      return;
    }
    const conditions = [own.condition, { key, version }];
    for (const row of taken) conditions.push({ key: rowKey(attachment.namespace, row.id), version: row.version });
    if (isLoadDue) attachment.loadDueMs = time.monoMs + LOAD_MS;
    this.#ask(attachment, conditions, after, version, out);
  }

  /** Whether the node may list the shard as held. A fence from before the attachment is never used again, nor one under which a shard was dropped. */
  #mayTake(row: ShardRow, { instance }: Attachment, { held, created }: OwnerRecord): boolean {
    return !held.has(row.id) && this.#isAssigned(row, instance) && !row.isDraining && row.fence.number > created;
  }

  #isAssigned(row: ShardRow | undefined, instance: string): row is ShardRow {
    const { store } = this.#options.machine;
    return row !== undefined && row.owner === instance && row.session === this.#sessionName && row.fence.storeEpoch === store?.epoch;
  }

  /** The states of all shards that concern the owner. Removes shards whose last validity is over from the record, by adding them to `dropped`. */
  #statesOf(attachment: Attachment, record: OwnerRecord, map: ShardMap | undefined, time: Time): ReadonlyMap<number, OwnedShard> {
    const { instance, lostUntilMs, dropped, told } = attachment;
    const states = new Map<number, OwnedShard>();
    for (const id of dropped) if (!record.held.has(id)) dropped.delete(id);
    for (const id of lostUntilMs.keys()) if (!record.held.has(id)) lostUntilMs.delete(id);
    for (const id of record.held) {
      const row = map?.rows[id];
      const [fence, epoch] = [row?.fence ?? told.get(id)?.fence, row?.epoch ?? 0];
      if (!this.#isAssigned(row, instance)) this.#lose(attachment, id, time.monoMs, time);
      else if (row.isDraining) this.#lose(attachment, id, row.sinceMs + (map?.set.value.drainMs ?? 0), time);
      const untilMs = lostUntilMs.get(id);
      if (untilMs !== undefined && time.monoMs >= untilMs) dropped.add(id);
      if (dropped.has(id)) continue;
      const kept = row?.isDraining === true ? "draining" : row?.mode === "paused" ? "paused" : "owned";
      const state = untilMs === undefined ? kept : "lost";
      states.set(id, sameOr({ id, state, fence, epoch, isThrottled: row?.isThrottled === true }, told.get(id)));
    }
    for (const { id, next, epoch } of map?.rowsOf(instance) ?? [])
      if (next === instance && !states.has(id)) states.set(id, { id, state: "preparing", fence: undefined, epoch, isThrottled: false });
    return states;
  }

  /** From this time on, the owner's validity for the shard is not extended. */
  #lose(attachment: Attachment, id: number, atMs: number, { monoMs }: Time): void {
    const { lostUntilMs } = attachment;
    if (!lostUntilMs.has(id) && monoMs >= atMs) lostUntilMs.set(id, attachment.grantedMs);
    attachment.dueMs = Math.min(attachment.dueMs, lostUntilMs.get(id) ?? atMs);
  }

  /** Sends the changes to the owner. Without a change, it only answers a message of the owner. */
  #tell(attachment: Attachment, states: ReadonlyMap<number, OwnedShard>, time: Time, out: ShardOutput[], isAnswer = false): void {
    const { told, sink, heardMs, isEnded } = attachment;
    if (isEnded) return;
    const changed = [...states.values()].filter((shard) => !isSame(shard, told.get(shard.id)));
    for (const shard of told.values()) if (!states.has(shard.id)) changed.push({ ...shard, state: goneState(shard) });
    if (!isAnswer && changed.length === 0) return;
    attachment.told = states;
    const { validForMs, waitsFor } = this.#grant(attachment, time);
    attachment.grantedMs = Math.max(attachment.grantedMs, heardMs + validForMs / VALIDITY);
    out.push({ kind: "ownerNews", owner: sink, news: { validForMs, shards: changed, waitsFor } });
  }

  #grant(attachment: Attachment, time: Time): { readonly validForMs: number; readonly waitsFor: string } {
    const { machine, leaseMs } = this.#options;
    const { heardMs, key } = attachment;
    const own = machine.ownSession(time);
    if (this.#queues.get(key)?.[0] !== attachment)
      return { validForMs: 0, waitsFor: "an earlier stream of this instance, which can still act" };
    if (own === undefined) return { validForMs: 0, waitsFor: machine.fault || "the control store, which does not answer" };
    if (this.#ownRecord(attachment) === undefined)
      return { validForMs: 0, waitsFor: "the control store, or an earlier node of this instance, whose session has not ended" };
    const validForMs = Math.floor(Math.min(leaseMs * VALIDITY, own.untilMs - heardMs));
    return { validForMs: Math.max(0, validForMs), waitsFor: "" };
  }

  #ask(
    attachment: Attachment,
    conditions: readonly StoreCondition[],
    record: OwnerRecord | undefined,
    version: number,
    out: ShardOutput[],
  ): void {
    attachment.retryMs = NEVER;
    attachment.askedVersion = version;
    const write = { key: attachment.key, value: record && encodeRecord(ownerJson(record)) };
    this.#options.machine.requests.transact(conditions, [write], out, (result, { monoMs }) => {
      const isRefused = result?.isCommitted === false;
      // The watch reports the record before or after this answer. After a refusal, any change that it reports can be the reason.
      if (attachment.retryMs === NEVER) attachment.retryMs = isRefused ? Number.NEGATIVE_INFINITY : monoMs + RETRY_MS;
      attachment.dueMs = Math.min(attachment.dueMs, monoMs + RETRY_MS);
    });
  }
}

function isSameFacts(a: OwnerFacts, b: OwnerFacts): boolean {
  return OWNER_FACTS.every((fact) => a[fact] === b[fact]);
}

function isSameSet(a: ReadonlySet<number>, b: ReadonlySet<number>): boolean {
  return a === b || (a.size === b.size && a.isSubsetOf(b));
}

function isEnding(shard: OwnedShard | undefined): boolean {
  return shard !== undefined && (shard.state === "draining" || shard.state === "lost");
}

function isSame(shard: OwnedShard, told: OwnedShard | undefined): boolean {
  if (told === undefined || told === shard) return told === shard;
  return told.state === shard.state && told.isThrottled === shard.isThrottled && told.fence?.number === shard.fence?.number;
}

/** The object that is known if it is equal, so that an owner of thousands of shards is compared quickly. */
function sameOr(shard: OwnedShard, told: OwnedShard | undefined): OwnedShard {
  return told !== undefined && isSame(shard, told) && told.epoch === shard.epoch ? told : shard;
}

function isActing(shard: OwnedShard | undefined): boolean {
  return shard !== undefined && (shard.state === "owned" || shard.state === "paused");
}

/** A shard that an owner acts for, and that its record no longer lists, is lost unless the owner gave it up. */
function goneState(shard: OwnedShard): OwnedShard["state"] {
  return isActing(shard) ? "lost" : "released";
}

function loadOf(reports: readonly ShardReport[]): OwnerLoad {
  const sum = (valueOf: (report: ShardReport) => number) => reports.reduce((total, report) => total + valueOf(report), 0);
  const rate = sum((report) => report.rate);
  const mean = (valueOf: (report: ShardReport) => number) => (rate === 0 ? 0 : sum((report) => valueOf(report) * report.rate) / rate);
  // By Little's law, rate × time is the number of items that are being processed.
  const items = ({ depth, latencyMs, rate: own }: ShardReport) => Math.round(100 * (depth + (own * latencyMs) / 1000)) / 100;
  const hottest = reports.map((report) => [report.id, items(report)] as const).toSorted((a, b) => b[1] - a[1] || a[0] - b[0]);
  return {
    depth: sum(({ depth }) => depth),
    latencyMs: mean(({ latencyMs }) => latencyMs),
    errorRatio: mean(({ errorRatio }) => errorRatio),
    items: sum(items),
    hottest: hottest.slice(0, HOTTEST),
  };
}

function differs(a: OwnerLoad, b: OwnerLoad): boolean {
  return (["depth", "latencyMs", "errorRatio", "items"] as const).some(
    (field) => Math.abs(a[field] - b[field]) > LOAD_CHANGE * Math.max(a[field], b[field]),
  );
}
