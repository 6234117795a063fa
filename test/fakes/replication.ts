/** Nodes that replicate over links in memory: streams that keep order, or a net that drops, doubles and reorders frames. */
import { create } from "@bufbuild/protobuf";
import { EntryKeySchema, EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryStamper, finishEntry } from "../../src/catalog/entry/codec.ts";
import { relationOf, SCOPE, type Scope } from "../../src/catalog/entry/scope.ts";
import { EntryIndex } from "../../src/catalog/query/entry-index.ts";
import { encodeRecord } from "../../src/catalog/record/codec.ts";
import { BODY, type CatalogRecord, HEALTH, type KeyText, KIND, keyParts } from "../../src/catalog/record/record.ts";
import { Slab } from "../../src/catalog/record/slab.ts";
import type { StoredRecord } from "../../src/catalog/record/stored-record.ts";
import { sameFilter, TraitsPool } from "../../src/catalog/record/traits.ts";
import { buildFrame } from "../../src/catalog/replica/frames.ts";
import { Replica } from "../../src/catalog/replica/replica.ts";
import type { FabricOutput } from "../../src/fabric/io-types.ts";
import { LinkReplication } from "../../src/fabric/replication/link-replication.ts";
import type { ReplicationOptions } from "../../src/fabric/replication/options.ts";
import { Replicator } from "../../src/fabric/replication/replicator.ts";
import { entryHash } from "../../src/fabric/replication/version-vector.ts";
import type { ReplicationFrame, VectorEntry } from "../../src/fabric/wire/messages.ts";
import { Sum64 } from "../../src/lib/hash64.ts";
import { Hlc } from "../../src/lib/hlc.ts";
import type { Time } from "../../src/lib/machine.ts";
import { Rng } from "../../src/lib/rng.ts";
import { BOUNDS, REPLICATION_OPTIONS } from "./options.ts";

export interface NodeSpec {
  readonly nodeId: string;
  readonly generation?: number;
  readonly clusterId?: string;
  readonly region?: string;
  /** Ahead of the others' wall clocks. */
  readonly skewMs?: number;
  readonly options?: Partial<ReplicationOptions>;
  /** The table of members. */
  readonly members?: Pick<ConstructorParameters<typeof Replicator>[0]["members"], "find">;
}

const pool = new TraitsPool(1024);
const stamper = new EntryStamper({ bounds: BOUNDS, traits: pool });

export class ReplicatingNode {
  readonly nodeId: string;
  readonly place: { readonly clusterId: string; readonly region: string };
  readonly replica: Replica;
  readonly shared: Replicator;
  readonly links = new Set<LinkReplication>();
  readonly outputs: FabricOutput[] = [];
  readonly hlc = new Hlc();
  readonly #skewMs: number;

  constructor(spec: NodeSpec) {
    this.nodeId = spec.nodeId;
    this.place = { clusterId: spec.clusterId ?? "c1", region: spec.region ?? "r1" };
    this.#skewMs = spec.skewMs ?? 0;
    const numbers = { generation: spec.generation ?? 1, lastSeq: 0, floor: 0, tombstoneTtlMs: 1000, minTombstones: 4 };
    this.replica = new Replica(new EntryIndex(), new Slab(), { nodeId: this.nodeId, ...numbers, place: this.place });
    const parts = { replica: this.replica, stamper, bounds: BOUNDS, hlc: this.hlc, rng: new Rng(this.nodeId), place: this.place };
    const { options, members = { find: () => undefined } } = spec;
    this.shared = new Replicator({ ...parts, options: { ...REPLICATION_OPTIONS, ...options }, members: { listed: () => [], ...members } });
  }

  timeOf(monoMs: number): Time {
    return { monoMs, wallMs: 1_700_000_000_000 + monoMs + this.#skewMs };
  }

  /** Puts the service `name` and makes it visible. */
  put(name: string, monoMs: number, how: { scope?: Scope; tag?: string } = {}): KeyText {
    const key = this.stage(name, monoMs, how);
    this.commit(monoMs);
    return key;
  }

  /** As `put`, without `commit`: its journal does not hold it yet. */
  stage(name: string, monoMs: number, { scope = SCOPE.ZONE, tag = "blue" }: { scope?: Scope; tag?: string } = {}): KeyText {
    const time = this.timeOf(monoMs);
    const key = create(EntryKeySchema, { kind: KIND.SERVICE, namespace: "svc", name, instanceId: "1" });
    const entry = create(EntrySchema, { key, tags: [tag], health: HEALTH.HEALTHY, scope });
    const stamped = stamper.entryOf(entry, 0, { nodeId: this.nodeId, ...this.place, zone: "z", tenantId: "", receivedWallMs: 0 });
    const own = this.replica.own(stamped.key);
    const before = own?.body === BODY.ENTRY ? own : undefined;
    const bytes = finishEntry(stamped.content, { registeredWallMs: 1, updatedWallMs: time.wallMs, load: undefined });
    const isFilterChange = before === undefined || !sameFilter(before, stamped);
    const { namespace, kind, health, traits } = stamped;
    const fields = { key: stamped.key, namespace, name, kind, scope, health, traits, bytes, isFilterChange, principal: "p" };
    this.replica.stagePut({ ...fields, hlc: this.hlc.stamp(time.wallMs), contentBytes: stamped.content.length });
    return stamped.key;
  }

  /** Ends its own record of a key, or takes the key out whoever has it. Nothing when there is nothing to end. */
  end(key: KeyText, body: typeof BODY.EXPIRED | typeof BODY.UNREGISTERED, monoMs: number): void {
    const own = this.replica.own(key);
    const of = body === BODY.UNREGISTERED ? (this.replica.view(key) ?? own) : own;
    if (of === undefined || of.body !== BODY.ENTRY) return;
    this.replica.stageTombstone(of, body, this.hlc.stamp(this.timeOf(monoMs).wallMs));
    this.commit(monoMs);
  }

  /** A record as it is, through no filter. */
  encode(stored: StoredRecord): Uint8Array {
    const { body } = stored;
    if (body !== BODY.ENTRY) return encodeRecord(stored, { body, key: keyParts(stored.key) });
    return encodeRecord(stored, { body, entry: this.replica.slab.view(stored.at, stored.sizeBytes) });
  }

  commit(monoMs: number): void {
    const time = this.timeOf(monoMs);
    this.replica.commit(this.replica.lastSeq, time);
    // Without links nobody is told, and nothing is gathered.
    if (this.links.size > 0) this.shared.changed(time);
  }

  /** Collects the tombstones that may go by then. */
  collect(monoMs: number): void {
    this.replica.collect(this.timeOf(monoMs), 100);
  }

  /** The records it shows, in key order. */
  records(): readonly CatalogRecord[] {
    const records: CatalogRecord[] = [];
    const cursor = this.replica.lookup.cursor();
    for (let record = cursor.next(); record !== undefined; record = cursor.next()) records.push(record);
    return records;
  }

  /** What it shows: a line a key. */
  shown(): readonly string[] {
    return this.records().map((r) => `${r.key.replaceAll("\0", "|")} ${r.origin.id} ${r.seq} ${r.traits.tags.join()}`);
  }

  /** What it holds of an origin, tombstones too. */
  held(originId: string): readonly string[] {
    const storedRecords = this.replica.origins.get(originId)?.log.list() ?? [];
    return storedRecords.map((stored) => `${stored.key.replaceAll("\0", "|")} ${stored.seq} ${stored.body}`);
  }

  /** What it knows, in order of origins. */
  vector(): readonly string[] {
    const known = [...this.replica.origins.values()].filter((origin) => origin.through > 0);
    return known.map((origin) => `${origin.id} ${origin.through}`).toSorted((x, y) => (x < y ? -1 : 1));
  }
}

interface End {
  readonly node: ReplicatingNode;
  readonly link: LinkReplication;
}

interface Flight {
  readonly to: End;
  readonly frame: ReplicationFrame;
  readonly dueMonoMs: number;
}

export interface WireOptions {
  readonly delayMs?: number;
  /** Per hundred frames; an unruly wire is no stream. */
  readonly lossPercent?: number;
  readonly doublePercent?: number;
  /** Extra delay up to so long, drawn for each frame: they overtake each other. */
  readonly jitterMs?: number;
}

/** A link between two nodes, for as long as it stands. */
export class Wire {
  readonly a: End;
  readonly b: End;
  readonly #flights: Flight[] = [];
  readonly #options: WireOptions;
  readonly #rng: Rng;
  /** The other side of a stalled end does not read: nothing is pulled. */
  isStalled = false;
  /** What is on its way to that node waits. */
  heldFrom: ReplicatingNode | undefined;
  sentFrames = 0;
  sentRecords = 0;
  sentBytes = 0;
  readonly log: ReplicationFrame[] = [];

  constructor(a: ReplicatingNode, b: ReplicatingNode, monoMs: number, options: WireOptions = {}) {
    this.#options = options;
    this.#rng = new Rng(`${a.nodeId} ${b.nodeId} ${monoMs}`);
    this.a = { node: a, link: open(a, b, monoMs) };
    this.b = { node: b, link: open(b, a, monoMs) };
    relink(a);
    relink(b);
  }

  close(): void {
    for (const { node, link } of [this.a, this.b]) {
      link.close();
      node.links.delete(link);
      relink(node);
    }
  }

  /** One moment: what is due arrives, timers run, what can be sent is sent. */
  step(monoMs: number): void {
    const due = this.#flights.filter(({ dueMonoMs, to }) => dueMonoMs <= monoMs && to.node !== this.heldFrom);
    for (const flight of due) {
      this.#flights.splice(this.#flights.indexOf(flight), 1);
      flight.to.link.receive(flight.frame, flight.to.node.timeOf(monoMs), flight.to.node.outputs);
    }
    this.#run(this.a, this.b, monoMs);
    this.#run(this.b, this.a, monoMs);
  }

  #run(from: End, to: End, monoMs: number): void {
    const time = from.node.timeOf(monoMs);
    this.#sweep(from.node, time);
    if (from.link.nextDeadlineMs() <= monoMs) from.link.tick(time, from.node.outputs);
    // A stream takes a few frames at a time.
    for (let n = 0; n < 8 && !this.isStalled && from.link.hasWork(time); n++) {
      const frame = from.link.next(time);
      if (frame !== undefined) this.#send(frame, to, monoMs);
    }
  }

  /** A slice of what is owed to many records, as the lives of origins do it. */
  #sweep({ replica, shared, outputs }: ReplicatingNode, time: Time): void {
    replica.sweep(2, time);
    for (const origin of replica.sweeps.takeClosed()) shared.closed(origin, time, outputs);
    shared.disproved.step(time);
  }

  #send(frame: ReplicationFrame, to: End, monoMs: number): void {
    const { delayMs = 5, lossPercent = 0, doublePercent = 0, jitterMs = 0 } = this.#options;
    this.sentFrames += 1;
    this.log.push(frame);
    if (frame.kind === "records") {
      this.sentRecords += frame.frame.records.length;
      this.sentBytes += frame.frame.records.reduce((sum, record) => sum + record.length, 0);
    }
    if (this.#rng.int(100) < lossPercent) return;
    const times = this.#rng.int(100) < doublePercent ? 2 : 1;
    for (let n = 0; n < times; n++)
      this.#flights.push({ to, frame, dueMonoMs: monoMs + delayMs + (jitterMs > 0 ? this.#rng.int(jitterMs) : 0) });
  }
}

export type Link = LinkReplication;

/** One node's side of a link: for tests that play the other side by hand. `isHeld`: whether the peer gets no records for now. */
export function open(node: ReplicatingNode, peer: ReplicatingNode, monoMs: number, isHeld = () => false): LinkReplication {
  const { nodeId, generation } = peer.replica.self;
  const relation = relationOf(node.place, peer.place);
  const facts = { nodeId, generation, ...peer.place, relation };
  const link = new LinkReplication(node.shared, facts, node.timeOf(monoMs), { greetedMonoMs: monoMs, isHeld });
  node.links.add(link);
  return link;
}

function relink(node: ReplicatingNode): void {
  node.shared.setLinked([...node.links].map((link) => link.peer.nodeId));
}

/** A side that has more than so many frames to send at one time does not come to an end. */
const MAX_DRAINED = 100_000;

/** Everything a side has to send now. */
export function drain(link: LinkReplication, time: Time): readonly ReplicationFrame[] {
  const frames: ReplicationFrame[] = [];
  for (let n = 0; link.hasWork(time); n++) {
    if (n === MAX_DRAINED) throw new Error(`the link has work without end: ${frames.length} of ${n} times it gave a frame`);
    const frame = link.next(time);
    if (frame !== undefined) frames.push(frame);
  }
  return frames;
}

/** A vector as a peer may send it now; its digest is of these entries alone. */
export function vectorOf(
  entries: readonly (Partial<VectorEntry> & { readonly nodeId: string; readonly seq: number })[],
  { isPartial = false, isWanted = false }: { isPartial?: boolean; isWanted?: boolean } = {},
): ReplicationFrame & { readonly kind: "vector" } {
  const sum = new Sum64();
  const all = entries.map((entry) => ({ generation: 1, floor: 0, ...entry }));
  for (const { nodeId, generation, seq } of all) sum.add(entryHash(`${nodeId}/${generation}`, seq));
  return { kind: "vector", entries: all, digest: sum.value, isPartial, isWanted, ...(!isWanted && { times: NOW }) };
}

const NOW = { atMs: 1, asOfMs: Number.MAX_SAFE_INTEGER };

/** Frames of the node's own records for a peer that knows everything up to `after`. */
export function framesOf(node: ReplicatingNode, after: number, budgetBytes = 100_000): ReplicationFrame & { readonly kind: "records" } {
  const from = { after, isComplete: false };
  const frame = buildFrame(node.replica, node.replica.self, from, { relation: "cluster", clusterId: node.place.clusterId }, budgetBytes);
  return { kind: "records", frame, ...node.place };
}

/** Runs wires for so long, in steps of 5 ms; returns the time it is then. */
export function run(wires: readonly Wire[], fromMonoMs: number, forMs: number, isDone: () => boolean = () => false): number {
  let now = fromMonoMs;
  for (; now < fromMonoMs + forMs && !isDone(); now += 5) for (const wire of wires) wire.step(now);
  return now;
}
