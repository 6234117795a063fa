/** The maps of shards, as this node knows them: copies of the sets, of their rows, their owners and their plans. */
import { sha256Hex } from "../../lib/crypto.ts";
import type { FenceToken } from "../../lib/fence.ts";
import type { StoreChanges } from "../../store/control/store.ts";
import { type CopiedItem, type CopyStep, StoreCopy } from "../leadership/copy.ts";
import { LEADERS, type LeaderRecord, type ShardFields } from "../leadership/records.ts";
import {
  decodeOwner,
  decodePlan,
  decodeSet,
  OWNERS,
  type OwnerRecord,
  PLANS,
  type PlanRecord,
  rowKey,
  SHARD_SETS,
  type ShardSetRecord,
} from "./records.ts";

/** `draining` while the owner finishes its work; otherwise the mode that operators have set. */
export type ShardStatus = ShardFields["mode"] | "draining";

/** A shard. If its row was never written, the shard is active and has no owner. */
export interface ShardRow extends ShardFields {
  readonly id: number;
  /** Version of the record. 0 if it was never written. */
  readonly version: number;
  /** Monotonic time (ms) at which this node learned of this version. */
  readonly sinceMs: number;
  /** The instance that owns the shard. Empty if none does. */
  readonly owner: string;
  /** The session of the owner's node. Empty if there is no owner. */
  readonly session: string;
  readonly nodeId: string;
  readonly fence: FenceToken;
  readonly term: number;
  /** Why the row last changed. */
  readonly reason: string;
}

const NO_ROW: Omit<ShardRow, "id"> = {
  version: 0,
  sinceMs: Number.NEGATIVE_INFINITY,
  owner: "",
  session: "",
  nodeId: "",
  fence: { failoverVersion: 0, storeEpoch: 0, number: 0 },
  term: 0,
  reason: "the shard never had an owner",
  epoch: 0,
  mode: "active",
  isDraining: false,
  isThrottled: false,
  next: "",
  weight: 1,
  hint: "",
  ticket: "",
  changedWallMs: 0,
  movedWallMs: 0,
};

export class ShardMap {
  readonly namespace: string;
  readonly set: CopiedItem<ShardSetRecord> & { readonly value: ShardSetRecord };
  /** All shards, by id. */
  readonly rows: readonly ShardRow[];
  /** The epoch of the rows. */
  readonly epoch: number;
  /** The lines of the checksum. Empty until they are needed. */
  #lines: readonly string[] = [];
  #checksum: string | undefined;
  #byInstance: Map<string, ShardRow[]> | undefined;

  /** `before` is the map that this one replaces. */
  constructor(namespace: string, set: ShardMap["set"], rows: readonly ShardRow[], before?: ShardMap) {
    this.namespace = namespace;
    this.set = set;
    this.rows = rows;
    // The rows and the set have different watches. The changes of the set alone count when all changes of rows before them are known.
    const rowsEpoch = rows.reduce((newest, { epoch }) => Math.max(newest, epoch), 0);
    const { epoch } = set.value;
    // The epoch falls only if the store was replaced.
    const reached = before !== undefined && before.epoch <= epoch ? before.epoch : 0;
    this.epoch = Math.max(rowsEpoch, set.value.rowsEpoch <= rowsEpoch ? epoch : reached);
    if (before?.rows === rows) [this.#lines, this.#checksum, this.#byInstance] = [before.#lines, before.#checksum, before.#byInstance];
    else if (before !== undefined && before.#lines.length === rows.length)
      this.#lines = rows.map((row, id) => (row === before.rows[id] ? (before.#lines[id] ?? "") : lineOf(row)));
  }

  /** The rows whose owner or next owner is this instance. */
  rowsOf(instance: string): readonly ShardRow[] {
    if (this.#byInstance === undefined) {
      this.#byInstance = new Map();
      for (const row of this.rows)
        for (const name of row.next === row.owner ? [row.owner] : [row.owner, row.next]) {
          const rows = this.#byInstance.get(name);
          if (rows === undefined) this.#byInstance.set(name, [row]);
          else rows.push(row);
        }
    }
    return this.#byInstance.get(instance) ?? [];
  }

  get checksum(): string {
    return (this.#checksum ??= this.checksumWith([]));
  }

  /** The first 16 hexadecimal digits of SHA-256 over the lines `<id> <owner> <fence> <status>`, by id, after these rows have changed. */
  checksumWith(changed: readonly ShardRow[]): string {
    if (this.#lines.length === 0) this.#lines = this.rows.map(lineOf);
    const lines = [...this.#lines];
    for (const row of changed) lines[row.id] = lineOf(row);
    return sha256Hex(lines.join("")).slice(0, 16);
  }
}

type ByNamespace<T> = Map<string, Map<string, CopiedItem<T>>>;
/** Plans by id, the newest last. */
export type ShardPlans = ReadonlyMap<string, CopiedItem<PlanRecord> & { readonly value: PlanRecord }>;

export class ShardMaps {
  readonly #leaders: ReadonlyMap<string, CopiedItem<LeaderRecord>>;
  readonly #sets = new StoreCopy(decodeSet);
  readonly #owners = new StoreCopy(decodeOwner);
  readonly #plans = new StoreCopy(decodePlan);
  readonly #maps = new Map<string, ShardMap>();
  /** The owners of each namespace, by instance, and its plans, by the last part of their ids. */
  readonly #ownersOf: ByNamespace<OwnerRecord> = new Map();
  readonly #plansOf: ByNamespace<PlanRecord> = new Map();
  /** The results of `plans`, until a plan of the namespace changes. */
  readonly #listed = new Map<string, ShardPlans>();
  /** The rows in the steps of the watch on leaders since the last step with `isCurrent`, which changes them: ids by namespace. */
  readonly #reported = new Map<string, Set<number>>();
  #hasRows = false;
  /** The namespaces whose map has changed since it was read, and the ids of its changed rows. */
  readonly #dirty = new Map<string, Set<number>>();

  /** `leaders` contains the records of leaders by key. */
  constructor(leaders: ReadonlyMap<string, CopiedItem<LeaderRecord>>) {
    this.#leaders = leaders;
  }

  /** Applies a step of the watch on leaders, sets, owners or plans. The leadership machine must have applied the step before. Returns the namespaces that can have changed. */
  take(prefix: string, changes: StoreChanges, monoMs: number): ReadonlySet<string> {
    const touched = new Set<string>();
    if (prefix === LEADERS) {
      for (const { key } of changes.changes) {
        const [, kind, namespace = "", id] = key.split("/");
        if (kind === "shard") addIds(this.#reported, namespace, [Number(id)]);
      }
      if (changes.isReset) for (const [namespace, { rows }] of this.#maps) addIds(this.#reported, namespace, rows.keys());
      if (!changes.isCurrent) return touched;
      this.#hasRows = true;
      for (const [namespace, ids] of this.#reported) {
        touched.add(namespace);
        addIds(this.#dirty, namespace, ids);
      }
      this.#reported.clear();
    } else if (prefix === SHARD_SETS) {
      for (const { key } of this.#sets.take(changes, monoMs)?.changes ?? []) {
        touched.add(key.slice(SHARD_SETS.length));
        addIds(this.#dirty, key.slice(SHARD_SETS.length), []);
      }
    } else if (prefix === OWNERS) applyByNamespace(this.#owners.take(changes, monoMs), this.#ownersOf, touched);
    else if (prefix === PLANS) {
      applyByNamespace(this.#plans.take(changes, monoMs), this.#plansOf, touched);
      for (const namespace of touched) this.#listed.delete(namespace);
    }
    return touched;
  }

  /** Whether this node has read all rows, sets, owners and plans once. */
  get isRead(): boolean {
    return this.#hasRows && [this.#sets, this.#owners, this.#plans].every(({ revision }) => revision !== undefined);
  }

  /** The namespaces that have a set, or had one. */
  get namespaces(): readonly string[] {
    return [...this.#sets.items.keys()].map((key) => key.slice(SHARD_SETS.length));
  }

  /** The record of a set that was deleted. */
  deleted(namespace: string): ShardMap["set"] | undefined {
    const { value, ...item } = this.#sets.items.get(SHARD_SETS + namespace) ?? { version: 0, sinceMs: 0 };
    return value?.isDeleted === true ? { ...item, value } : undefined;
  }

  /** Undefined if the namespace has no set, or if its record cannot be read. */
  map(namespace: string): ShardMap | undefined {
    const ids = this.#dirty.get(namespace);
    if (ids !== undefined) {
      this.#dirty.delete(namespace);
      const item = this.#sets.items.get(SHARD_SETS + namespace);
      const { value } = item ?? {};
      if (item === undefined || value === undefined || value.isDeleted) this.#maps.delete(namespace);
      else
        this.#maps.set(
          namespace,
          new ShardMap(namespace, { ...item, value }, this.#rows(namespace, value.count, ids), this.#maps.get(namespace)),
        );
    }
    return this.#maps.get(namespace);
  }

  owners(namespace: string): ReadonlyMap<string, CopiedItem<OwnerRecord>> {
    return this.#ownersOf.get(namespace) ?? new Map<string, CopiedItem<OwnerRecord>>();
  }

  /** The plans of a namespace by id, the newest last. The result is the same until a plan changes. A plan that cannot be read is left out. */
  plans(namespace: string): ShardPlans {
    const listed =
      this.#listed.get(namespace) ??
      new Map(
        [...(this.#plansOf.get(namespace) ?? [])]
          .flatMap(([name, item]) => (item.value === undefined ? [] : [[`${namespace}/${name}`, { ...item, value: item.value }] as const]))
          .toSorted(([, a], [, b]) => a.value.createdWallMs - b.value.createdWallMs || a.version - b.version),
      );
    this.#listed.set(namespace, listed);
    return listed;
  }

  #rows(namespace: string, count: number, ids: ReadonlySet<number>): readonly ShardRow[] {
    const item = (id: number) => this.#leaders.get(rowKey(namespace, id));
    const before = this.#maps.get(namespace)?.rows;
    if (before?.length !== count) return Array.from({ length: count }, (_, id) => rowOf(id, item(id)));
    const rows = [...before];
    for (const id of ids) {
      const [row, after] = [before[id], item(id)];
      const isSame = row === undefined || (after?.version === row.version && after.sinceMs === row.sinceMs);
      if (!isSame) rows[id] = rowOf(id, after);
    }
    return ids.size === 0 ? before : rows;
  }
}

function addIds(byNamespace: Map<string, Set<number>>, namespace: string, ids: Iterable<number>): void {
  const all = byNamespace.get(namespace) ?? new Set();
  byNamespace.set(namespace, all);
  for (const id of ids) all.add(id);
}

/** A record that cannot be read counts as a shard without an owner, and is replaced. */
function rowOf(id: number, item: CopiedItem<LeaderRecord> | undefined): ShardRow {
  if (item === undefined) return { id, ...NO_ROW };
  const { version, sinceMs, value } = item;
  if (value?.shard === undefined) return { id, ...NO_ROW, version, sinceMs };
  const { holderId, session, nodeId, fence, term, reason, shard } = value;
  return { id, version, sinceMs, owner: session === "" ? "" : holderId, session, nodeId, fence, term, reason, ...shard };
}

/** Applies changes of records whose keys contain a namespace and a name, and adds the namespaces to `touched`. */
function applyByNamespace<T>(step: CopyStep<T> | undefined, byNamespace: ByNamespace<T>, touched: Set<string>): void {
  for (const { key, after } of step?.changes ?? []) {
    // The id of an instance can contain slashes.
    const [, namespace = "", ...names] = key.split("/");
    const name = names.join("/");
    const items = byNamespace.get(namespace) ?? new Map<string, CopiedItem<T>>();
    byNamespace.set(namespace, items);
    if (after === undefined) items.delete(name);
    else items.set(name, after);
    touched.add(namespace);
  }
}

/** A disabled shard needs no owner. */
export function isUnowned({ owner, mode }: Pick<ShardRow, "mode" | "owner">): boolean {
  return owner === "" && mode !== "disabled";
}

export function statusOf({ isDraining, mode }: Pick<ShardRow, "isDraining" | "mode">): ShardStatus {
  return isDraining ? "draining" : mode;
}

/** The text of a fence: `<failover version>.<store epoch>.<number>`. */
export function fenceNumbers({ failoverVersion, storeEpoch, number }: FenceToken): string {
  return `${failoverVersion}.${storeEpoch}.${number}`;
}

function lineOf(row: ShardRow): string {
  return `${row.id} ${row.owner} ${fenceNumbers(row.fence)} ${statusOf(row)}\n`;
}
