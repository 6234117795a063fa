/** Encodes shards, their owners, changes and plans as messages of the contract, and decodes the settings of a set. */
import { create } from "@bufbuild/protobuf";
import { type Duration, durationFromMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import { HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  RebalancePlanSchema,
  RebalanceState,
  type RebalanceStatus,
  RebalanceStatusSchema,
} from "../../../gen/waymark/control/v1/rebalance_pb.js";
import {
  OwnedShardSchema,
  OwnedShardState,
  ShardApproval,
  ShardChangeSchema,
  ShardDifferenceSchema,
  ShardOwnerSchema,
  ShardSchema,
  ShardSetSchema,
  ShardSettingsSchema,
  ShardStateSchema,
  ShardStatus,
  ShardStrategy,
  StoreLossBehavior,
  type ShardSettings as WireSettings,
} from "../../../gen/waymark/control/v1/shard_pb.js";
import type { OwnedShard } from "../../control/shards/io-types.ts";
import { isUnowned, type ShardMap, type ShardMaps, type ShardPlans, type ShardRow, statusOf } from "../../control/shards/maps.ts";
import { currentPlan, progressOf, rebalanceState } from "../../control/shards/rebalancing.ts";
import {
  APPROVALS,
  type PlanRecord,
  type RowChange,
  type RowState,
  type ShardChange,
  type ShardSettings,
  STORE_LOSS,
  STRATEGIES,
} from "../../control/shards/records.ts";
import { enumName, enumValue } from "../../lib/enum-words.ts";
import { type FenceToken, parseFence } from "../../lib/fence.ts";
import type { Time } from "../../lib/machine.ts";
import { durationMs, timestampOf } from "../contract.ts";
import { fenceOf } from "../leadership/leader-message.ts";

type Owners = Pick<ShardMaps, "owners">;

const DEFAULT_PARALLEL_MOVES = 10;
const DEFAULT_COOLDOWN_MS = 60_000;
const DEFAULT_PHASE_MS = 30_000;
const DEFAULT_OVERLOAD_MS = 30_000;

export function statusValue(row: Parameters<typeof statusOf>[0]): ShardStatus {
  return ShardStatus[enumName(statusOf(row))];
}

export function shardMessage(namespace: string, row: ShardRow) {
  const { owner, next: nextOwner, nodeId, fence, epoch, isThrottled: throttled, changedWallMs, movedWallMs } = row;
  return create(ShardSchema, {
    ...row,
    namespace,
    status: statusValue(row),
    nodeId: owner === "" ? "" : nodeId,
    nextOwner,
    fence: knownFence(fence),
    epoch: BigInt(epoch),
    throttled,
    changedAt: knownTime(changedWallMs),
    movedAt: knownTime(movedWallMs),
  });
}

/** A shard that never had an owner has no fence. */
function knownFence(fence: FenceToken | undefined) {
  return fence !== undefined && fence.number > 0 ? fenceOf(fence) : undefined;
}

function knownTime(wallMs: number): Timestamp | undefined {
  return wallMs > 0 ? timestampOf(wallMs) : undefined;
}

/** The owners and next owners of rows. */
export function ownerMessages(maps: Owners, { namespace }: ShardMap, rows: readonly ShardRow[]) {
  const owners = maps.owners(namespace);
  return [...new Set(rows.flatMap(({ owner, next }) => [owner, next]))].flatMap((instance) => {
    const { value } = owners.get(instance) ?? {};
    if (value === undefined) return [];
    const { isLeaving: leaving, health } = value;
    return [create(ShardOwnerSchema, { ...value, namespace, instance, leaving, health: HealthStatus[enumName(health)] })];
  });
}

export function setMessage(maps: Owners, map: ShardMap, time: Time) {
  const { namespace, rows, epoch, checksum, set } = map;
  return create(ShardSetSchema, {
    namespace,
    settings: settingsMessage(set.value),
    epoch: BigInt(epoch),
    checksum,
    ownerCount: maps.owners(namespace).size,
    unownedCount: rows.filter(isUnowned).length,
    oldestEpoch: BigInt(set.value.oldestEpoch),
    frozenUntil: frozenUntil(map, time),
  });
}

/** Undefined if the set is not frozen now. */
export function frozenUntil({ set: { value } }: ShardMap, { wallMs }: Time): Timestamp | undefined {
  return value.frozenUntilWallMs > wallMs ? timestampOf(value.frozenUntilWallMs) : undefined;
}

export function settingsMessage(settings: ShardSettings): WireSettings {
  return create(ShardSettingsSchema, {
    ...settings,
    strategy: ShardStrategy[enumName(settings.strategy)],
    approval: ShardApproval[enumName(settings.approval)],
    onStoreLoss: StoreLossBehavior[enumName(settings.onStoreLoss)],
    cooldown: durationFromMs(settings.cooldownMs),
    prepareTimeout: durationFromMs(settings.prepareMs),
    drainTimeout: durationFromMs(settings.drainMs),
    overload: {
      depth: BigInt(settings.maxDepth),
      latency: durationFromMs(settings.maxLatencyMs),
      errorRatio: settings.maxErrorRatio,
      duration: durationFromMs(settings.overloadMs),
    },
  });
}

/** The settings that a request contains, with the defaults of the contract. */
export function settingsOf(wire: WireSettings): ShardSettings {
  return {
    count: wire.count,
    service: wire.service,
    strategy: strategyOf(wire.strategy) ?? "rendezvous",
    approval: APPROVALS.find((word) => ShardApproval[enumName(word)] === wire.approval) ?? "none",
    onStoreLoss: STORE_LOSS.find((word) => StoreLossBehavior[enumName(word)] === wire.onStoreLoss) ?? "stop",
    maxParallelMoves: wire.maxParallelMoves || DEFAULT_PARALLEL_MOVES,
    cooldownMs: wholeMs(wire.cooldown, DEFAULT_COOLDOWN_MS),
    prepareMs: wholeMs(wire.prepareTimeout, DEFAULT_PHASE_MS),
    drainMs: wholeMs(wire.drainTimeout, DEFAULT_PHASE_MS),
    maxDepth: Number(wire.overload?.depth ?? 0),
    maxLatencyMs: wholeMs(wire.overload?.latency, 0),
    maxErrorRatio: wire.overload?.errorRatio ?? 0,
    overloadMs: wholeMs(wire.overload?.duration, DEFAULT_OVERLOAD_MS),
  };
}

/** Undefined if the request leaves the strategy open. */
export function strategyOf(value: ShardStrategy): ShardSettings["strategy"] | undefined {
  return STRATEGIES.find((word) => ShardStrategy[enumName(word)] === value);
}

function wholeMs(duration: Duration | undefined, defaultMs: number): number {
  return duration === undefined ? defaultMs : Math.round(durationMs(duration));
}

export function changeMessage(change: ShardChange) {
  const [epoch, changedAt, shards] = [BigInt(change.epoch), timestampOf(change.wallMs), change.rows.map(differenceMessage)];
  return create(ShardChangeSchema, { ...change, epoch, changedAt, shards });
}

export function differenceMessage({ id, before, after }: RowChange) {
  return create(ShardDifferenceSchema, { id, before: stateMessage(before), after: stateMessage(after) });
}

function stateMessage({ owner, next: nextOwner, fence, status }: RowState) {
  return create(ShardStateSchema, {
    status: enumValue(ShardStatus, status),
    owner,
    nextOwner,
    fence: knownFence(parseFence(`shard;${fence}`)?.fence),
  });
}

export function ownedMessage({ id, state, fence, epoch, isThrottled: throttled }: OwnedShard) {
  return create(OwnedShardSchema, {
    id,
    state: OwnedShardState[enumName(state)],
    epoch: BigInt(epoch),
    throttled,
    fence: knownFence(fence),
  });
}

export function planMessage(id: string, plan: PlanRecord, map: ShardMap) {
  const state = rebalanceState(map, plan);
  const moves = plan.moves
    .flatMap(({ from: before, to: after, ids }) => [...ids].map((shard) => ({ id: shard, before, after })))
    .toSorted((a, b) => a.id - b.id);
  const totalCount = moves.length;
  const movedCount = state === "completed" ? totalCount : state === "rebalancing" ? progressOf(plan, map).movedCount : 0;
  const [createdAt, epoch] = [timestampOf(plan.createdWallMs), BigInt(plan.epoch)];
  return create(RebalancePlanSchema, {
    ...plan,
    id,
    state: RebalanceState[enumName(state)],
    createdAt,
    epoch,
    moves,
    movedCount,
    totalCount,
  });
}

/** The state of the plan that has not ended, or without such a plan, of the set. */
export function rebalanceStateOf(map: ShardMap, plans: ShardPlans): RebalanceState {
  return RebalanceState[enumName(rebalanceState(map, currentPlan(plans)?.value))];
}

/** The status of each map, which streams share. */
const STATUSES = new WeakMap<ShardMap, { readonly plans: ShardPlans; readonly status: RebalanceStatus }>();

export function statusMessage(map: ShardMap, plans: ShardPlans) {
  const known = STATUSES.get(map);
  if (known?.plans === plans) return known.status;
  const current = currentPlan(plans);
  const [id, item] = current === undefined ? ([...plans].at(-1) ?? []) : [current.id, current];
  const plan = id !== undefined && item && { ...planMessage(id, item.value, map), moves: [] };
  const status = create(RebalanceStatusSchema, { state: rebalanceStateOf(map, plans), ...(plan && { plan }) });
  STATUSES.set(map, { plans, status });
  return status;
}
