/** The records of shards in the control store: their keys and their JSON. The rows are records of leaders, with more fields. */
import { count, decoderOf, type Fields, flag, LEADERS, positive, read, text, wordOf } from "../leadership/records.ts";

/** Prefix of the keys of sets; a namespace follows. */
export const SHARD_SETS = "shard-sets/";
/** Prefix of the keys of owners; a namespace, a slash and an instance follow. */
export const OWNERS = "owners/";
/** Prefix of the keys of changes; a namespace, a slash and the epoch with leading zeros follow. */
export const SHARD_HISTORY = "shard-history/";

/** Prefix of the keys of plans; the id of a plan follows: a namespace, a slash and a text. */
export const PLANS = "rebalance-plans/";

export const MAX_SHARDS = 10_000;
/** Maximum number of shards of all sets of a cluster. */
export const MAX_CLUSTER_SHARDS = 50_000;
/** Maximum number of owners of a set. */
export const MAX_OWNERS = 1000;

export const STRATEGIES = ["rendezvous", "ring", "locality"] as const;
export const APPROVALS = ["none", "any", "other"] as const;
export const STORE_LOSS = ["stop", "serve"] as const;

/** The settings of a set. Operators choose them. */
export interface ShardSettings {
  /** Number of shards. It never changes. */
  readonly count: number;
  readonly strategy: (typeof STRATEGIES)[number];
  /** The service whose instances own the shards. */
  readonly service: string;
  /** Who must approve a plan: `none` means no approval, `any` any operator, and `other` an operator who is not its author. */
  readonly approval: (typeof APPROVALS)[number];
  /** Whether owners continue while the control store is unavailable. All their resources must check fences then. */
  readonly onStoreLoss: (typeof STORE_LOSS)[number];
  readonly maxParallelMoves: number;
  /** Time for which a shard stays with its owner after a move. */
  readonly cooldownMs: number;
  /** Maximum time that the next owner has to prepare, and that the owner has to finish its work. */
  readonly prepareMs: number;
  readonly drainMs: number;
  /** An owner is overloaded above one of these values. 0: no limit. */
  readonly maxDepth: number;
  readonly maxLatencyMs: number;
  readonly maxErrorRatio: number;
  /** Time for which an owner must be overloaded or critical before its shards move. */
  readonly overloadMs: number;
}

/** The head of a set. Each change of the set, or of its rows, writes it. */
export interface ShardSetRecord extends ShardSettings {
  /** Number of changes of the set and its rows. */
  readonly epoch: number;
  /** The epoch of the last change of rows. */
  readonly rowsEpoch: number;
  /** The checksum of the rows at `rowsEpoch`. Empty if there was no change of rows. */
  readonly checksum: string;
  /** The oldest epoch whose change is kept. */
  readonly oldestEpoch: number;
  /** Until this time, shards move only when their owners end. */
  readonly frozenUntilWallMs: number;
  /** Whether an operator has deleted the set. The record stays, so that the epochs of a later set of the namespace are higher. */
  readonly isDeleted: boolean;
}

/** An owner, written by the node to which it is attached. */
export interface OwnerRecord {
  /** The session of the node. Another node replaces the record only when this session does not exist. */
  readonly session: string;
  readonly nodeId: string;
  /** The version of the record when it was created. A row with an older fence belongs to an earlier attachment. */
  readonly created: number;
  /** The principal that has registered the owner's entry in the catalog. */
  readonly principal: string;
  /** The address of the entry: `<host>:<port>`. */
  readonly target: string;
  readonly weight: number;
  readonly zone: string;
  readonly region: string;
  /** Maximum number of shards. 0: no limit. */
  readonly slots: number;
  /** Whether the owner accepts no more shards and gives up its shards. */
  readonly isLeaving: boolean;
  /** The health of the owner's entry in the catalog. */
  readonly health: (typeof OWNER_HEALTH)[number];
  /** The load of all its shards together, and the loads of its hottest shards. */
  readonly load: OwnerLoad;
  /** The shards for which the owner is ready as the next owner. */
  readonly prepared: ReadonlySet<number>;
  /** The shards for which the owner can act. */
  readonly held: ReadonlySet<number>;
}

export const OWNER_HEALTH = ["healthy", "degraded", "critical", "maintenance"] as const;

export interface OwnerLoad {
  /** Number of items that wait. */
  readonly depth: number;
  /** Mean time (ms) to process an item, and the share of items that failed. */
  readonly latencyMs: number;
  readonly errorRatio: number;
  /** Number of items that wait or are being processed. */
  readonly items: number;
  /** The numbers of items of the shards with the most items: pairs of id and number. */
  readonly hottest: readonly (readonly [number, number])[];
}

export const NO_LOAD: OwnerLoad = { depth: 0, latencyMs: 0, errorRatio: 0, items: 0, hottest: [] };

/** The rows show whether a running plan is `draining` or `rebalancing`. */
export const PLAN_STATES = ["pending", "running", "completed", "failed", "cancelled"] as const;

/** A plan to move shards between owners that are attached. */
export interface PlanRecord {
  readonly state: (typeof PLAN_STATES)[number];
  /** The operator who proposed the plan, or the node. */
  readonly author: string;
  readonly reason: string;
  readonly ticket: string;
  /** Empty if no operator has approved the plan. */
  readonly approvedBy: string;
  /** The operator who has cancelled the plan. Empty if none has. */
  readonly cancelledBy: string;
  readonly createdWallMs: number;
  /** The epoch of the map for which the plan was made. */
  readonly epoch: number;
  /** Identifies the content of the plan. */
  readonly checksum: string;
  readonly moves: readonly PlannedMoves[];
  /** Why the plan ended. Empty until it has ended. */
  readonly detail: string;
}

/** The shards that move from one owner to another. */
export interface PlannedMoves {
  readonly from: string;
  readonly to: string;
  readonly ids: ReadonlySet<number>;
}

/** One row of a change. */
export interface RowChange {
  readonly id: number;
  readonly before: RowState;
  readonly after: RowState;
}

export interface RowState {
  readonly owner: string;
  readonly next: string;
  readonly fence: string;
  readonly status: string;
}

/** One change of a set, in its history. */
export interface ShardChange {
  readonly epoch: number;
  readonly wallMs: number;
  /** The operator or the node that made the change. */
  readonly actor: string;
  readonly reason: string;
  readonly ticket: string;
  readonly rows: readonly RowChange[];
}

/** Key of the row of a shard. */
export function rowKey(namespace: string, id: number): string {
  return `${LEADERS}${rowScope(namespace, id)}`;
}

export function rowScope(namespace: string, id: number): string {
  return `shard/${namespace}/${id}`;
}

export function ownerKey(namespace: string, instance: string): string {
  return `${OWNERS}${namespace}/${instance}`;
}

export function historyKey(namespace: string, epoch: number): string {
  return `${SHARD_HISTORY}${namespace}/${String(epoch).padStart(16, "0")}`;
}

/** The ids as ranges, such as `["0-5", "7"]`, so that records stay small and readable. */
export function rangesOf(ids: Iterable<number>): readonly string[] {
  const ranges: { from: number; to: number }[] = [];
  for (const id of [...ids].toSorted((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last !== undefined && id <= last.to + 1) last.to = id;
    else ranges.push({ from: id, to: id });
  }
  return ranges.map(({ from, to }) => (from === to ? `${from}` : `${from}-${to}`));
}

const RANGE = /^(?<from>\d{1,4})(?:-(?<to>\d{1,4}))?$/;

/** Reads the result of `rangesOf`. Throws `TypeError`. */
function idsOf(value: unknown): ReadonlySet<number> {
  const found = new Set<number>();
  for (const range of list(value)) {
    const { from, to = from } = RANGE.exec(text(range))?.groups ?? {};
    if (from === undefined) throw new TypeError("no range");
    for (let id = Number(from); id <= Number(to); id++) found.add(id);
  }
  return found;
}

/** Reads a finite number that is not negative. */
function amount(value: unknown): number {
  return value === 0 ? 0 : positive(value);
}

function list(value: unknown): readonly unknown[] {
  if (!Array.isArray(value)) throw new TypeError("no list");
  return value;
}

const SET: Fields<ShardSetRecord> = {
  count: (value) => Math.min(count(value), MAX_SHARDS),
  strategy: wordOf(STRATEGIES),
  service: text,
  approval: wordOf(APPROVALS),
  onStoreLoss: wordOf(STORE_LOSS),
  maxParallelMoves: positive,
  cooldownMs: count,
  prepareMs: count,
  drainMs: count,
  maxDepth: amount,
  maxLatencyMs: amount,
  maxErrorRatio: amount,
  overloadMs: count,
  epoch: count,
  rowsEpoch: count,
  checksum: text,
  oldestEpoch: count,
  frozenUntilWallMs: count,
  isDeleted: flag,
};
const LOAD: Fields<OwnerLoad> = {
  depth: amount,
  latencyMs: amount,
  errorRatio: amount,
  items: amount,
  hottest: (value) => list(value).map((pair) => [count(list(pair)[0]), amount(list(pair)[1])]),
};
const OWNER: Fields<OwnerRecord> = {
  session: text,
  nodeId: text,
  created: count,
  principal: text,
  target: text,
  weight: positive,
  zone: text,
  region: text,
  slots: count,
  isLeaving: flag,
  health: wordOf(OWNER_HEALTH),
  load: (value) => read(value, LOAD),
  prepared: idsOf,
  held: idsOf,
};
const STATE: Fields<RowState> = { owner: text, next: text, fence: text, status: text };
const ROW: Fields<RowChange> = { id: count, before: (value) => read(value, STATE), after: (value) => read(value, STATE) };
const CHANGE: Fields<ShardChange> = {
  epoch: count,
  wallMs: count,
  actor: text,
  reason: text,
  ticket: text,
  rows: (value) => list(value).map((row) => read(row, ROW)),
};

const MOVES: Fields<PlannedMoves> = { from: text, to: text, ids: idsOf };
const PLAN: Fields<PlanRecord> = {
  state: wordOf(PLAN_STATES),
  author: text,
  reason: text,
  ticket: text,
  approvedBy: text,
  cancelledBy: text,
  createdWallMs: count,
  epoch: count,
  checksum: text,
  moves: (value) => list(value).map((moves) => read(moves, MOVES)),
  detail: text,
};

export const decodePlan = decoderOf(PLAN);
export const decodeSet = decoderOf(SET);
export const decodeChange = decoderOf(CHANGE);
const decodeAnyOwner = decoderOf(OWNER);

/** Returns undefined for bytes that are not a valid record. A new record does not state the version at which it was created. */
export function decodeOwner(bytes: Uint8Array, version: number): OwnerRecord | undefined {
  const record = decodeAnyOwner(bytes);
  return record?.created === 0 ? { ...record, created: version } : record;
}

/** The JSON of a plan. */
export function planJson(plan: PlanRecord): object {
  return { ...plan, moves: plan.moves.map(({ ids, ...move }) => ({ ...move, ids: rangesOf(ids) })) };
}

/** The JSON of an owner's record. */
export function ownerJson(record: OwnerRecord): object {
  return { ...record, prepared: rangesOf(record.prepared), held: rangesOf(record.held) };
}
