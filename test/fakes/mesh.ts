/** Replicas that copy from each other by frames, each with a journal in memory and a naive model beside it. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { EntryKeySchema, EntrySchema, FunctionDetailSchema, TargetSchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import type { BatchPut } from "../../src/catalog/batch.ts";
import { EntryStamper, finishEntry, type StampedEntry } from "../../src/catalog/entry/codec.ts";
import { SCOPE, type Scope } from "../../src/catalog/entry/scope.ts";
import { Leases } from "../../src/catalog/leases.ts";
import { EntryIndex } from "../../src/catalog/query/entry-index.ts";
import { encodeRecord } from "../../src/catalog/record/codec.ts";
import {
  BODY,
  type CatalogRecord,
  HEALTH,
  type KeyText,
  KIND,
  keyParts,
  keyText,
  type OriginStatus,
} from "../../src/catalog/record/record.ts";
import { Slab } from "../../src/catalog/record/slab.ts";
import { type Origin, type StoredRecord, settledOf } from "../../src/catalog/record/stored-record.ts";
import { sameFilter, TraitsPool } from "../../src/catalog/record/traits.ts";
import { buildFrame, FrameReceiver, type FrameResult, type OriginFrame } from "../../src/catalog/replica/frames.ts";
import { Replica } from "../../src/catalog/replica/replica.ts";
import { endsBeforeHlc } from "../../src/catalog/replica/view.ts";
import type { CursorSource } from "../../src/catalog/watch/cursor-gap.ts";
import type { ReaderNode } from "../../src/catalog/watch/reader.ts";
import { restoreRow } from "../../src/discovery/registrar/restore.ts";
import { Hlc } from "../../src/lib/hlc.ts";
import type { Time } from "../../src/lib/machine.ts";
import { Model, plain } from "./model.ts";
import { BOUNDS } from "./options.ts";

export const NAMESPACES = ["svc", "svc.eu", "svc-x", "other"] as const;
const NAMES = ["db", "web"] as const;

/** All keys that histories use, by index. */
export const KEYS: readonly KeyText[] = NAMESPACES.flatMap((namespace) =>
  NAMES.flatMap((name, i) =>
    ["1", "2"].map((instanceId) => keyText({ kind: i === 0 ? KIND.SERVICE : KIND.FUNCTION, namespace, name, instanceId, clusterId: "c1" })),
  ),
);

/**
 * What an entry may look like: each differs from the first in one thing that a filter can look at, the last but one in none, and the
 * last in its version, if it is a function.
 */
const VARIANTS: readonly MessageInitShape<typeof EntrySchema>[] = [
  { tags: ["blue"], health: HEALTH.HEALTHY },
  { tags: ["green"], health: HEALTH.HEALTHY },
  { tags: ["blue"], health: HEALTH.DEGRADED },
  { tags: ["blue"], health: HEALTH.HEALTHY, capabilities: ["grpc"] },
  { tags: ["blue"], health: HEALTH.HEALTHY, resources: ["gpu"] },
  { tags: ["blue"], health: HEALTH.HEALTHY, scope: SCOPE.REGION },
  { tags: ["blue"], health: HEALTH.HEALTHY, metadata: { note: "x".repeat(200) } },
  { tags: ["blue"], health: HEALTH.HEALTHY },
];
/** The number of the last of them. */
export const V2 = VARIANTS.length - 1;

const TTL_MS = 1000;
const pool = new TraitsPool(1024);
const stamper = new EntryStamper({ bounds: BOUNDS, traits: pool });
const stampedEntries = new Map<string, StampedEntry>();

function entryOf(nodeId: string, key: KeyText, choice: number, aliases: readonly string[]): StampedEntry {
  const variant = choice % VARIANTS.length;
  const id = `${nodeId} ${variant} ${key} ${aliases.join()}`;
  let stamped = stampedEntries.get(id);
  if (stamped === undefined) {
    const { kind, namespace, name, instanceId } = keyParts(key);
    const entry = create(EntrySchema, VARIANTS[variant]);
    entry.key = create(EntryKeySchema, { kind, namespace, name, instanceId });
    entry.aliases = [...aliases];
    if (aliases.length > 0) entry.targets = [create(TargetSchema, { host: `192.0.2.${instanceId}`, port: 80 })];
    const version = variant === V2 ? "2.0.0" : "1.0.0";
    if (kind === KIND.FUNCTION) entry.detail = { case: "function", value: create(FunctionDetailSchema, { version }) };
    stamped = stamper.entryOf(entry, 0, { nodeId, clusterId: "c1", region: "r1", zone: "z1", tenantId: "", receivedWallMs: 0 });
    stampedEntries.set(id, stamped);
  }
  return stamped;
}

interface Disk {
  generation: number;
  lastSeq: number;
  floor: number;
  readonly rows: Map<string, BatchPut>;
}

/** What a place knows of an origin, in the words of a cursor. */
export interface KnownOrigin {
  /** Told up to here, and of everything up to `settled`. */
  readonly seq: number;
  readonly settled: number;
  readonly life: OriginStatus;
}

export class FabricComponent {
  readonly nodeId: string;
  /** Tells a copy of the node that only readers use from the node itself. */
  readonly viewName: string = "";
  /** Where readers stand. A node knows it from its replica. */
  readonly places: CursorSource | undefined = undefined;
  /** Of the entries that it puts from now on. Those that have any have an address as well. */
  aliases: readonly string[] = [];
  readonly disk: Disk = { generation: 1, lastSeq: 0, floor: 0, rows: new Map() };
  replica: Replica;
  model: Model;
  receiver: FrameReceiver;
  facts: ReaderNode;
  readonly #hlc = new Hlc();
  readonly #pastTouches: number | undefined;
  #boots = 0;

  constructor(nodeId: string, pastTouches?: number) {
    this.nodeId = nodeId;
    this.#pastTouches = pastTouches;
    this.model = this.#newModel();
    this.replica = this.#open();
    this.receiver = new FrameReceiver(this.replica, stamper, BOUNDS);
    this.facts = this.#factsOf();
  }

  #newModel(): Model {
    const model = new Model();
    model.markOf = (originId) => this.replica.origins.get(originId)?.markedSeq ?? 0;
    return model;
  }

  /** What is seen here, decided naively. */
  get shown(): Model {
    return this.model;
  }

  /** Whether readers here get cursors that are good everywhere. */
  get isPlace(): boolean {
    return true;
  }

  /** What the readers of this place may have been told, by the id of the origin. */
  known(): ReadonlyMap<string, KnownOrigin> {
    return new Map(
      [...this.replica.origins].map(([id, origin]) => {
        const { through, unsettled, log, life } = origin;
        const seq = unsettled === undefined ? through : Math.max(through, log.lastOrder);
        return [id, { seq, settled: settledOf(origin), life }];
      }),
    );
  }

  /** Stages a put of this node's own. */
  put(key: KeyText, variant: number, time: Time, hlc = this.#hlc.stamp(time.wallMs), as?: Scope): StoredRecord {
    const stamped = entryOf(this.nodeId, key, variant, this.aliases);
    const own = this.replica.own(key);
    const before = own?.body === BODY.ENTRY ? own : undefined;
    const bytes = finishEntry(stamped.content, { registeredWallMs: 1, updatedWallMs: time.wallMs, load: undefined });
    const isFilterChange = before === undefined || !sameFilter(before, stamped);
    const { namespace, name, kind, scope, health, traits } = stamped;
    const fields = { key, namespace, name, kind, scope: as ?? scope, health, traits, hlc, bytes, isFilterChange };
    return this.replica.stagePut({ ...fields, principal: "p", contentBytes: stamped.content.length });
  }

  /** Stages a tombstone; nothing when there is nothing to end. */
  end(key: KeyText, body: typeof BODY.EXPIRED | typeof BODY.UNREGISTERED, time: Time): boolean {
    const own = this.replica.own(key);
    const of = body === BODY.UNREGISTERED ? (this.replica.view(key) ?? own) : own;
    if (of === undefined || of.body !== BODY.ENTRY) return false;
    this.replica.stageTombstone(of, body, body === BODY.EXPIRED ? of.hlc : this.#hlc.stamp(time.wallMs));
    return true;
  }

  /** Of a key that expired here its principal says that it is unregistered. */
  endAgain(key: KeyText, time: Time): void {
    const own = this.replica.own(key);
    if (own?.body === BODY.EXPIRED) this.replica.stageTombstone(own, BODY.UNREGISTERED, this.#hlc.stamp(time.wallMs));
  }

  /** Ends the own entries that records of other origins hide, as a registrar does. */
  endHidden(time: Time): void {
    for (const key of KEYS) {
      const own = this.replica.own(key);
      const isHidden = own !== undefined && this.replica.records(key).some((other) => isEndedBy(other, own));
      if (isHidden && this.end(key, BODY.EXPIRED, time)) this.commit(time);
    }
  }

  /** What is staged goes to disk, then becomes visible. */
  commit(time: Time): void {
    for (const stored of this.replica.staged) {
      const { body } = stored;
      const said =
        body === BODY.ENTRY
          ? { body, entry: Uint8Array.from(this.replica.slab.view(stored.at, stored.sizeBytes)) }
          : { body, key: keyParts(stored.key) };
      this.disk.rows.set(stored.key, {
        key: stored.key,
        seq: stored.seq,
        record: Uint8Array.from(encodeRecord(stored, said)),
        leaseId: "",
      });
      this.model.apply(stored);
    }
    this.disk.lastSeq = this.replica.lastSeq;
    this.replica.commit(this.replica.lastSeq, time);
  }

  /** The next frame of an origin for a peer of this cluster. */
  frame(origin: Origin, from: { readonly after: number; readonly isComplete: boolean }, budgetBytes: number): OriginFrame {
    const frame = buildFrame(this.replica, origin, from, { relation: "cluster", clusterId: "c1" }, budgetBytes);
    return { ...frame, records: frame.records.map((record) => Uint8Array.from(record)) };
  }

  /** Brings this node up to what `from` knows of an origin, with frames of this size, at most `maxFrames` of them. */
  copy(from: FabricComponent, originId: string, time: Time, budgetBytes = 600, maxFrames = 1000): void {
    const origin = from.replica.origins.get(originId);
    if (origin === undefined || originId === this.replica.self.id || this.replica.forgotten.has(originId)) return;
    let next = { after: this.replica.origins.get(originId)?.through ?? 0, isComplete: false };
    for (let n = 0; n < maxFrames; n++) {
      const frame = from.frame(origin, next, budgetBytes);
      this.receive(frame, time, from);
      next = { after: frame.through, isComplete: frame.isComplete };
      if (frame.isComplete ? frame.isLast : frame.through >= origin.through) return;
    }
  }

  /** Applies a frame to the replica, and does all that then is to be done in slices. */
  apply(frame: OriginFrame, time: Time): FrameResult {
    const applied = this.receiver.apply(frame, time);
    while (this.replica.origins.get(`${frame.nodeId}/${frame.generation}`)?.closing !== undefined) this.replica.sweep(1000, time);
    return applied;
  }

  /** Applies a frame to the replica, and the same, naively, to the model. */
  receive(frame: OriginFrame, time: Time, from: FabricComponent): FrameResult {
    const id = `${frame.nodeId}/${frame.generation}`;
    const known = this.replica.origins.get(id)?.through ?? 0;
    const applied = this.apply(frame, time);
    if (applied.kind !== "applied") return applied;
    if (applied.refused.length > 0) throw new Error(`refused ${applied.refused.join(", ")}`);
    this.#hlc.merge(applied.maxHlc, time.wallMs, 60_000);
    const sent = from.model.records.filter((r) => r.origin.id === id && r.seq > Math.max(frame.after, known) && r.seq <= frame.through);
    for (const record of sent) this.model.apply(record);
    if (frame.isComplete && frame.isLast) {
      const isListed = (key: KeyText): boolean =>
        from.model.records.some((r) => r.origin.id === id && r.key === key && r.body === BODY.ENTRY);
      this.model.withdraw((r) => r.origin.id === id && r.seq <= frame.through && !isListed(r.key));
    }
    return applied;
  }

  setLife(originId: string, life: OriginStatus): void {
    const origin = this.replica.origins.get(originId);
    if (origin === undefined || origin === this.replica.self) return;
    this.replica.setLife(origin, life);
    this.model.lifecycle.set(originId, life);
  }

  forget(originId: string, time: Time): void {
    const origin = this.replica.origins.get(originId);
    if (origin === undefined || origin === this.replica.self) return;
    this.replica.forgetOrigin(origin, time);
    // What marks hide from then on is touched in slices too.
    while (this.replica.sweeps.isOwed) this.replica.sweep(Number.POSITIVE_INFINITY, time);
    const { model } = this;
    const [ended, rest] = [model.records.filter((r) => r.origin.id === originId), model.records.filter((r) => r.origin.id !== originId)];
    const isEndedIn = (records: readonly CatalogRecord[], r: CatalogRecord) =>
      records.some((e) => e.key === r.key && unregisteredUpTo(e) > r.hlc);
    // Of one that is away all is marked instead: its node has not heard of it.
    const isTold = (r: CatalogRecord) => r.origin.id !== this.replica.self.id && model.lifeOf(r.origin.id) === "live";
    // What another record ended too stays hidden by that one.
    model.withdraw((r) => isTold(r) && isEndedIn(ended, r) && !isEndedIn(rest, r));
    this.model.drop((r) => r.origin.id === originId);
    this.model.lifecycle.delete(originId);
  }

  collect(time: Time, maxCount = 100, by: "age" | "count" = "age"): void {
    for (const key of this.replica.collect(time, maxCount, by)) this.disk.rows.delete(key);
    this.disk.floor = this.replica.self.floor;
    // Which tombstones may go is the replica's own affair; that none may go which hides something is checked on the model.
    this.model.drop((r) => r.body !== BODY.ENTRY && !this.replica.records(r.key).some((stored) => stored.origin.id === r.origin.id));
  }

  /** A new process life. With the disk the same generation and the own records; without, a new one and nothing. */
  restart(time: Time, disk: "disk kept" | "disk lost"): void {
    if (disk === "disk lost") {
      this.disk.generation += 1;
      this.disk.lastSeq = 0;
      this.disk.floor = 0;
      this.disk.rows.clear();
    }
    const own = this.model.records.filter((r) => disk === "disk kept" && r.origin.id === this.replica.self.id);
    this.model = this.#newModel();
    for (const record of own) this.model.apply(plain(record));
    this.replica = this.#open();
    this.receiver = new FrameReceiver(this.replica, stamper, BOUNDS);
    this.facts = this.#factsOf();
    const parts = { replica: this.replica, leases: new Leases(), stamper, bounds: BOUNDS, region: undefined };
    const rows = [...this.disk.rows.values()].toSorted((a, b) => a.seq - b.seq);
    for (const row of rows) this.#hlc.merge(restoreRow(row, parts, time) ?? 0, 0, Number.POSITIVE_INFINITY);
  }

  #open(): Replica {
    const { generation, lastSeq, floor } = this.disk;
    const past = this.#pastTouches === undefined ? {} : { pastTouches: this.#pastTouches };
    const bounds = { tombstoneTtlMs: TTL_MS, minTombstones: 4, ...past };
    return new Replica(new EntryIndex(), new Slab(), { nodeId: this.nodeId, generation, lastSeq, floor, ...bounds });
  }

  #factsOf(): ReaderNode {
    this.#boots += 1;
    return { nodeId: this.nodeId, clusterId: "c1", region: "r1", boot: `${this.nodeId}-${this.#boots}` };
  }
}

/** Whether a record unregistered an older one of another origin. */
export function isEndedBy(ender: StoredRecord, { origin, hlc }: StoredRecord): boolean {
  return origin.id !== ender.origin.id && hlc < endsBeforeHlc(ender);
}

/** What is older is gone: the stamp of an `unregistered` tombstone, or of the one that this record of its origin replaced. */
function unregisteredUpTo({ body, hlc, unregisteredHlc = 0 }: CatalogRecord): number {
  return body === BODY.UNREGISTERED ? hlc : unregisteredHlc;
}
