/** A registrar with its replica, leases and a journal in memory that can refuse, and that a restart reads back. */

import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { EntryKeySchema, EntrySchema } from "../../gen/waymark/catalog/v1/entry_pb.js";
import type { BatchLease, BatchPut, WriteBatch } from "../../src/catalog/batch.ts";
import { EntryStamper, finishEntry, type StampedEntry } from "../../src/catalog/entry/codec.ts";
import { PROTOCOL_BOUNDS } from "../../src/catalog/entry/names.ts";
import { Leases } from "../../src/catalog/leases.ts";
import { EntryIndex } from "../../src/catalog/query/entry-index.ts";
import type { MaintenanceOverrides } from "../../src/catalog/record/maintenance.ts";
import { BODY, type BodyKind, type KeyText, KIND, keyText } from "../../src/catalog/record/record.ts";
import { Slab } from "../../src/catalog/record/slab.ts";
import { StoredRecord } from "../../src/catalog/record/stored-record.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { Replica } from "../../src/catalog/replica/replica.ts";
import { LoadReports } from "../../src/discovery/registrar/load-reports.ts";
import { type CollectsBy, type RegisterCommand, Registrar } from "../../src/discovery/registrar/registrar.ts";
import { JournalRestore, restoreLeases } from "../../src/discovery/registrar/restore.ts";
import { Hlc } from "../../src/lib/hlc.ts";
import type { Time } from "../../src/lib/machine.ts";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import { NamespaceQuotas } from "../../src/policy/limits/quotas.ts";
import { NO_POLICY, type Policy } from "../../src/policy/set/verdict.ts";
import { BOUNDS } from "./options.ts";
import { ALL_TIME_COUNTS } from "./stall-clock.ts";

export const WALL = 1_760_000_000_000;
const HLC_PER_MS = 2048;
/** A stamp of an earlier life that is further ahead than this does not move the clock. */
const MAX_SKEW_MS = 60_000;
const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(1024) });
/** As that of a node whose settings allow as much as any. */
export const WIDEST_STAMPER: EntryStamper = new EntryStamper({ bounds: PROTOCOL_BOUNDS, traits: new TraitsPool(1024) });

/** Monotonic and wall time, `ms` after the start. */
export function at(ms: number): Time {
  return { monoMs: ms, wallMs: WALL + ms };
}

export function caller(principal: string, roles: readonly string[] = []): Caller {
  return { ...anonymousCaller("c1", "127.0.0.1", roles), principal };
}

/** A draft of `svc/<name>`. */
export function stamped(name: string, init: MessageInitShape<typeof EntrySchema> = {}, registeredByAdmin = false): StampedEntry {
  const entry = create(EntrySchema, init);
  entry.key = create(EntryKeySchema, { namespace: "svc", name, instanceId: "1" });
  const place = { nodeId: "a", clusterId: "c1", region: "r1", zone: "z1" };
  return stamper.entryOf(entry, 0, { ...place, tenantId: "", registeredByAdmin, receivedWallMs: WALL });
}

/** As `stamped`, by a caller of that tenant. */
export function stampedBy(tenantId: string, name: string, init: MessageInitShape<typeof EntrySchema>): StampedEntry {
  const entry = create(EntrySchema, init);
  entry.key = create(EntryKeySchema, { namespace: "svc", name, instanceId: "1" });
  return stamper.entryOf(entry, 0, { nodeId: "a", clusterId: "c1", region: "r1", zone: "z1", tenantId, receivedWallMs: WALL });
}

/** A draft of any key, as a node of that cluster makes it. */
export function draftAt(
  key: MessageInitShape<typeof EntryKeySchema>,
  init: MessageInitShape<typeof EntrySchema>,
  clusterId = "c1",
): StampedEntry {
  const entry = create(EntrySchema, init);
  entry.key = create(EntryKeySchema, key);
  return stamper.entryOf(entry, 0, { nodeId: "a", clusterId, region: "r1", zone: "z1", tenantId: "", receivedWallMs: WALL });
}

export function keyOf(name: string): KeyText {
  return keyText({ kind: KIND.SERVICE, namespace: "svc", name, instanceId: "1", clusterId: "c1" });
}

export function command(stampedEntries: readonly StampedEntry[], rest: Partial<RegisterCommand> = {}): RegisterCommand {
  return { stampedEntries, ttlMs: undefined, leaseId: "", idempotencyKey: "", isStatic: false, ...rest };
}

/** What a journal holds after its batches, applied in the order that `WriteBatch` promises. */
export class Disk {
  rows = new Map<string, BatchPut>();
  leases = new Map<string, BatchLease>();
  lastSeq = 0;
  floor = 0;

  write(batch: WriteBatch): void {
    for (const key of batch.forget) this.rows.delete(key);
    for (const lease of batch.leases) this.leases.set(lease.leaseId, lease);
    for (const put of batch.puts) this.rows.set(put.key, { ...put, record: Uint8Array.from(put.record) });
    for (const id of batch.endedLeases) this.leases.delete(id);
    this.lastSeq = batch.lastSeq;
    this.floor = batch.floor;
  }
}

/** What another node says of a key. */
interface ReceivedRecord {
  readonly body: BodyKind;
  readonly hlcMs: number;
  readonly nodeId: string;
  readonly orders?: MaintenanceOverrides;
  /** Whose entry it is. Not set means ann. */
  readonly principal?: string;
}

const NO_QUOTA = { entries: 0, watches: 0, bytes: 0 };

/** No quota is set. */
function noQuotas({ lookup }: Replica): NamespaceQuotas {
  return new NamespaceQuotas({
    namespaceQuota: () => NO_QUOTA,
    tenantQuota: () => NO_QUOTA,
    namespaceUsage: (namespace) => lookup.namespaceUsage(namespace),
    tenantUsage: (tenant) => lookup.tenantUsage(tenant),
    sees: () => true,
    isSet: () => false,
    onRefusal: () => undefined,
  });
}

export class Registry {
  readonly disk: Disk;
  #tokens = 0;
  replica!: Replica;
  leases!: Leases;
  registrar!: Registrar;
  /** The policy in force. */
  readonly policies: { policy: Policy } = { policy: NO_POLICY };
  /** What the audit was told. */
  readonly refused: string[] = [];
  /** Whether old tombstones may go. */
  collectsBy: CollectsBy = "age";
  #flight: WriteBatch | undefined;

  readonly #quotasOf: (replica: Replica) => NamespaceQuotas;

  constructor(disk = new Disk(), quotasOf: (replica: Replica) => NamespaceQuotas = noQuotas) {
    this.disk = disk;
    this.#quotasOf = quotasOf;
    this.restart(at(0));
  }

  /** What a restart now would find. */
  twin(): Registry {
    return new Registry(this.disk);
  }

  /** A new process life from what is on disk. */
  restart(time: Time, region?: string): void {
    const { lastSeq, floor } = this.disk;
    const options = { nodeId: "a", generation: 1, lastSeq, floor, tombstoneTtlMs: 3_600_000, minTombstones: 4 };
    this.replica = new Replica(new EntryIndex(), new Slab(), options);
    this.leases = new Leases();
    const hlc = new Hlc();
    this.#flight = undefined;
    this.registrar = new Registrar(
      {
        source: { clusterId: "c1", region: "r1" },
        policies: this.policies,
        onDenied: (_caller, { namespace, verdict }) => void this.refused.push(`${verdict.reason} ${namespace}`),
        onRefused: ({ action, namespace }) => void this.refused.push(`${action} ${namespace}`),
        nodeId: "a",
        defaultLeaseTtlMs: 30_000,
        minLeaseTtlMs: 1_000,
        maxLeaseTtlMs: 86_400_000,
        maxIdempotencyKeys: 4,
        collectsBy: () => this.collectsBy,
        newToken: () => `${(this.#tokens += 1)}`,
        stallClock: ALL_TIME_COUNTS,
      },
      { replica: this.replica, leases: this.leases, stamper, hlc, loads: new LoadReports(30_000), quotas: this.#quotasOf(this.replica) },
    );
    restoreLeases(this.leases, [...this.disk.leases.values()], this.registrar, time);
    const parts = { replica: this.replica, leases: this.leases, stamper, bounds: BOUNDS, region };
    const restoring = new JournalRestore({ ...parts, hlc, maxClockSkewMs: MAX_SKEW_MS }, time);
    for (const row of [...this.disk.rows.values()].toSorted((a, b) => a.seq - b.seq)) restoring.row(row);
    restoring.finish();
    this.registrar.restored();
  }

  /** Another node's record of `svc/<name>` arrives, stamped `hlcMs` after the start by its clock. */
  hear(name: string, body: BodyKind, hlcMs: number, time: Time, nodeId = "b"): void {
    this.receive(stamped(name, { tags: ["theirs"] }), { body, hlcMs, nodeId }, time);
  }

  /** Another node's record of any key arrives. */
  receive(of: StampedEntry, { body, hlcMs, nodeId, orders, principal = "ann" }: ReceivedRecord, time: Time): void {
    const origin = this.replica.origin(nodeId, 1);
    const seq = origin.through + 1;
    origin.through = seq;
    const { key, namespace, name, kind, scope, health, traits, content } = of;
    const bytes = body === BODY.ENTRY ? finishEntry(content, { registeredWallMs: 1, updatedWallMs: 1, load: undefined }) : undefined;
    const where = bytes === undefined ? 0 : this.replica.slab.put(bytes);
    const numbers = { seq, hlc: (WALL + hlcMs) * HLC_PER_MS, firstSeq: seq, filterSeq: seq };
    const said = { key, namespace, name, kind, scope, reach: scope, health, traits, principal };
    const held = { at: where, sizeBytes: bytes?.length ?? 0, contentBytes: bytes === undefined ? 0 : content.length };
    this.replica.install(new StoredRecord({ ...said, ...numbers, ...held, origin, body, orders }), time);
  }

  /** Hands the next batch to the journal, which has not answered yet. */
  take(): WriteBatch | undefined {
    this.#flight ??= this.registrar.takeBatch();
    return this.#flight;
  }

  /** The journal answers: everything taken is on disk. */
  land(time: Time): void {
    const batch = this.#flight;
    this.#flight = undefined;
    if (batch === undefined) return;
    this.disk.write(batch);
    this.registrar.commit(batch, time);
  }

  /** The journal refuses what is in flight, or what would be. */
  refuse(): void {
    const batch = this.take();
    this.#flight = undefined;
    if (batch !== undefined) this.registrar.abort(batch);
  }

  /** Everything staged goes to disk. */
  flush(time: Time): void {
    this.land(time);
    this.take();
    this.land(time);
  }

  register(who: string, stampedEntries: readonly StampedEntry[], time: Time, rest: Partial<RegisterCommand> = {}): string {
    const { leaseId } = this.registrar.register(caller(who), command(stampedEntries, rest), time);
    this.flush(time);
    return leaseId;
  }

  /** Names visible now. */
  names(): readonly string[] {
    const names: string[] = [];
    const cursor = this.replica.lookup.cursor();
    for (let record = cursor.next(); record !== undefined; record = cursor.next()) names.push(record.name);
    return names;
  }

  /** Own records, and leases with their keys, as text; the state that a refused batch must leave as it was. */
  state(): unknown {
    const records = this.replica.self.log.list().map(({ key, seq, body, principal }) => `${key} ${seq} ${body} ${principal}`);
    const leases = [...this.leases.ids()].toSorted().map((id) => {
      const { ttlMs, principal, deadlineMonoMs } = this.leases.find(id) ?? {};
      return { id, ttlMs, principal, deadlineMonoMs, keys: this.leases.keysOf(id).toSorted() };
    });
    return { records, leases, names: this.names(), staged: this.replica.staged.length };
  }

  /** Own live keys that no lease holds, what is staged included. */
  unleased(): readonly string[] {
    const all = [...this.replica.self.log.list(), ...this.replica.staged].filter((stored) => this.replica.own(stored.key) === stored);
    const live = all.filter((stored) => stored.body === BODY.ENTRY);
    return live.filter((stored) => this.leases.leaseOf(stored.key) === undefined).map((stored) => stored.name);
  }
}
