/** A `ShardSource` over the real maps, whose records a test writes. Changes are made at once, without a machine. */
import type { CopiedItem } from "../../src/control/leadership/copy.ts";
import { encodeRecord, LEADERS, type LeaderRecord, type ShardFields } from "../../src/control/leadership/records.ts";
import type { OwnerNews, ShardInput, ShardOrder } from "../../src/control/shards/io-types.ts";
import { type ShardMap, ShardMaps, type ShardRow, statusOf } from "../../src/control/shards/maps.ts";
import { orderedChange } from "../../src/control/shards/orders.ts";
import { liveOwners } from "../../src/control/shards/rebalancing.ts";
import {
  NO_LOAD,
  OWNERS,
  type OwnerRecord,
  ownerJson,
  ownerKey,
  PLANS,
  type PlanRecord,
  planJson,
  rowKey,
  SHARD_HISTORY,
  SHARD_SETS,
  type ShardChange,
  type ShardSetRecord,
  type ShardSettings,
} from "../../src/control/shards/records.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import type { StoreStatus } from "../../src/services/leadership/source.ts";
import type { ShardSource } from "../../src/services/shards/source.ts";

const SETTINGS: ShardSettings = {
  count: 4,
  strategy: "rendezvous",
  service: "worker",
  approval: "none",
  onStoreLoss: "stop",
  maxParallelMoves: 10,
  cooldownMs: 60_000,
  prepareMs: 30_000,
  maxDepth: 0,
  maxLatencyMs: 0,
  maxErrorRatio: 0,
  overloadMs: 30_000,
  drainMs: 30_000,
};
const FIELDS: ShardFields = {
  epoch: 0,
  mode: "active",
  isDraining: false,
  isThrottled: false,
  next: "",
  weight: 1,
  hint: "",
  ticket: "",
  changedWallMs: 1_770_000_000_000,
  movedWallMs: 1_770_000_000_000,
};

const PLAN: Omit<PlanRecord, "createdWallMs" | "epoch"> = {
  state: "pending",
  author: "ann",
  reason: "a plan",
  ticket: "",
  approvedBy: "",
  cancelledBy: "",
  checksum: "0123456789abcdef",
  moves: [],
  detail: "",
};

export type PutRow = Partial<ShardFields> & {
  readonly id: number;
  readonly owner?: string;
  readonly number?: number;
  readonly reason?: string;
};

export class KeptShards implements ShardSource {
  readonly #leaders = new Map<string, CopiedItem<LeaderRecord>>();
  readonly maps = new ShardMaps(this.#leaders);
  readonly inputs: ShardInput[] = [];
  readonly orders: ShardOrder[] = [];
  /** The ranges of epochs that were read from the history. */
  readonly reads: string[] = [];
  /** Called by `changeShards` before the change. Throws to refuse it. */
  refuse = () => {};
  /** The time of changes of plans. */
  time = { monoMs: 0, wallMs: 1_770_000_000_000 };
  status: StoreStatus = { kind: "etcd", id: "s", epoch: 7, revision: 1, ageMs: 0, fault: "" };
  readonly #history = new Map<string, ShardChange[]>();
  readonly #followers = new Set<(namespace: string) => void>();
  #version = 0;

  constructor() {
    for (const prefix of [LEADERS, SHARD_SETS, OWNERS, PLANS]) this.#take(prefix, []);
  }

  store(): StoreStatus {
    return this.status;
  }

  followShards(onChange: (namespace: string) => void): () => void {
    this.#followers.add(onChange);
    return () => this.#followers.delete(onChange);
  }

  get followerCount(): number {
    return this.#followers.size;
  }

  async changeShards(change: ShardOrder): Promise<void> {
    this.refuse();
    this.orders.push(change);
    if (change.kind === "apply") this.apply(change.namespace, change.settings);
    else if (change.kind === "setShard") {
      const row = this.row(change.namespace, change.id);
      const { mode = row.mode, weight = row.weight, hint = row.hint, ticket, reason } = change;
      this.change(change.namespace, [{ ...row, number: row.fence.number, mode, weight, hint, ticket, reason }]);
    } else {
      const live = liveOwners(this.maps.owners(change.namespace), () => false);
      const made = orderedChange(change, { maps: this.maps, live, newId: () => "new", historyCount: 100 }, this.time);
      if ("reason" in made) throw new WaymarkError(made.reason, made.message);
      this.#version++;
      for (const { key, value = new Uint8Array() } of made.writes) {
        const version = this.#version;
        const prefix = key.slice(0, key.indexOf("/") + 1);
        if (prefix !== SHARD_HISTORY) this.#take(prefix, [{ key, version, item: { key, version, value } }]);
      }
      for (const follow of this.#followers) follow(change.namespace);
    }
  }

  async shardHistory(namespace: string, after: number, upTo: number): Promise<readonly ShardChange[]> {
    this.reads.push(`${after}-${upTo}`);
    return (this.#history.get(namespace) ?? []).filter(({ epoch }) => epoch > after && epoch <= upTo);
  }

  input(input: ShardInput): void {
    this.inputs.push(input);
  }

  /** Sends news to the owner of the last message. */
  answer(news: Partial<OwnerNews> = {}): void {
    const last = this.inputs.findLast((input) => input.kind === "owner");
    last?.owner({ validForMs: 0, shards: [], waitsFor: "", ...news });
  }

  map(namespace: string): ShardMap {
    const map = this.maps.map(namespace);
    if (map === undefined) throw new Error(`${namespace} has no set`);
    return map;
  }

  row(namespace: string, id: number): ShardRow {
    const row = this.map(namespace).rows[id];
    if (row === undefined) throw new Error(`no shard ${id}`);
    return row;
  }

  /** Changes the settings of a set, which gets the next epoch. */
  apply(namespace: string, settings: Partial<ShardSettings & Pick<ShardSetRecord, "frozenUntilWallMs" | "oldestEpoch">> = {}): void {
    const { epoch = 0, ...before } = this.maps.map(namespace)?.set.value ?? {
      rowsEpoch: 0,
      checksum: "",
      oldestEpoch: 1,
      frozenUntilWallMs: 0,
      isDeleted: false,
    };
    this.#keep(namespace, { epoch: epoch + 1, rows: [] });
    this.#write(SHARD_SETS, [[SHARD_SETS + namespace, { ...SETTINGS, ...before, ...settings, epoch: epoch + 1 }]], namespace);
  }

  /** Changes rows, and the epoch of the set. */
  change(namespace: string, rows: readonly PutRow[]): void {
    const { set } = this.map(namespace);
    const epoch = set.value.epoch + 1;
    const before = rows.map(({ id }) => this.row(namespace, id));
    const records = rows.map((row) => [rowKey(namespace, row.id), recordOf({ ...row, epoch })] as const);
    for (const [key, value] of records) this.#leaders.set(key, { version: ++this.#version, value, sinceMs: this.#version });
    this.#take(
      LEADERS,
      records.map(([key, record]) => ({ key, version: this.#version, item: { key, version: this.#version, value: encodeRecord(record) } })),
    );
    this.#write(SHARD_SETS, [[SHARD_SETS + namespace, { ...set.value, epoch, rowsEpoch: epoch }]], namespace);
    const after = rows.map(({ id }) => this.row(namespace, id));
    const changes = after.map((row, i) => ({ id: row.id, before: stateOf(before[i] ?? row), after: stateOf(row) }));
    this.#keep(namespace, { epoch, rows: changes });
  }

  own(namespace: string, instance: string, record: Partial<OwnerRecord> = {}): void {
    const held = {
      session: "n1/s",
      nodeId: "n1",
      created: 1,
      principal: "",
      target: `${instance}.host:80`,
      weight: 1,
      zone: "a",
      region: "eu",
    };
    const owner = {
      ...held,
      slots: 0,
      isLeaving: false,
      health: "healthy" as const,
      load: NO_LOAD,
      prepared: new Set<number>(),
      held: new Set<number>(),
      ...record,
    };
    this.#write(OWNERS, [[ownerKey(namespace, instance), ownerJson(owner)]], namespace);
  }

  /** Writes a plan whose id ends in `name`. */
  plan(namespace: string, name: string, plan: Partial<PlanRecord> = {}): void {
    const times = { createdWallMs: this.time.wallMs, epoch: this.map(namespace).epoch };
    const record: PlanRecord = { ...PLAN, ...times, ...plan };
    this.#write(PLANS, [[`${PLANS}${namespace}/${name}`, planJson(record)]], namespace);
  }

  #keep(namespace: string, change: Pick<ShardChange, "epoch" | "rows">): void {
    const changes = this.#history.get(namespace) ?? [];
    this.#history.set(namespace, [...changes, { wallMs: 1_770_000_000_000, actor: "n1", reason: "a change", ticket: "", ...change }]);
  }

  #write(prefix: string, records: readonly (readonly [key: string, record: object])[], namespace: string): void {
    this.#version++;
    this.#take(
      prefix,
      records.map(([key, record]) => ({ key, version: this.#version, item: { key, version: this.#version, value: encodeRecord(record) } })),
    );
    for (const follow of this.#followers) follow(namespace);
  }

  #take(prefix: string, changes: Parameters<ShardMaps["take"]>[1]["changes"]): void {
    this.maps.take(prefix, { isReset: false, changes, revision: this.#version, isCurrent: true }, this.#version);
  }
}

function recordOf({ id: _id, owner = "", number = 0, reason = "a change", ...fields }: PutRow): LeaderRecord {
  const fence = { failoverVersion: 0, storeEpoch: 7, number };
  const holder = { holderId: owner, nodeId: "n1", session: owner === "" ? "" : "n1/s", term: 1, fence, issuedWallMs: 0, reason };
  const { epoch, mode, isDraining, isThrottled, next, weight, hint, ticket, changedWallMs, movedWallMs } = { ...FIELDS, ...fields };
  const shard = { epoch, mode, isDraining, isThrottled, next, weight, hint, ticket, changedWallMs, movedWallMs };
  return { ...holder, correlationId: "c", resign: undefined, shard };
}

function stateOf(row: ShardRow) {
  const { owner, next, fence } = row;
  return { owner, next, fence: `${fence.failoverVersion}.${fence.storeEpoch}.${fence.number}`, status: statusOf(row) };
}
