/** Encodes shards, their owners and their changes as messages of the contract, and decodes the settings of a set. */
import { create } from "@bufbuild/protobuf";
import { type Duration, durationFromMs } from "@bufbuild/protobuf/wkt";
import { HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import {
  OwnedShardState,
  type Shard,
  ShardApproval,
  ShardChangeSchema,
  type ShardDifference,
  ShardDifferenceSchema,
  type ShardOwner,
  ShardOwnerSchema,
  ShardSchema,
  type ShardSet,
  ShardSetSchema,
  ShardStatus,
  ShardStrategy,
  StoreLossBehavior,
  type ShardChange as WireChange,
  type ShardSettings as WireSettings,
} from "../../../gen/waymark/control/v1/shard_pb.js";
import type { OwnedShard } from "../../control/shards/io-types.ts";
import { isUnowned, type ShardMap, type ShardMaps, type ShardRow, statusOf } from "../../control/shards/maps.ts";
import {
  APPROVALS,
  type RowChange,
  type RowState,
  type ShardChange,
  type ShardSettings,
  STORE_LOSS,
  STRATEGIES,
} from "../../control/shards/records.ts";
import { enumName, enumValue, enumWord, type ProtoEnum } from "../../lib/enum-words.ts";
import { invalid } from "../../lib/errors.ts";
import { type FenceToken, parseFence } from "../../lib/fence.ts";
import { durationMs, timestampOf } from "../contract.ts";
import { fenceOf } from "../leadership/leader-message.ts";

export type ShardOwners = ReturnType<ShardMaps["owners"]>;

const DEFAULT_PARALLEL_MOVES = 10;
const DEFAULT_COOLDOWN_MS = 60_000;
const DEFAULT_PHASE_MS = 30_000;
const DEFAULT_OVERLOAD_MS = 30_000;

export function statusValue(row: Parameters<typeof statusOf>[0]): ShardStatus {
  return ShardStatus[enumName(statusOf(row))];
}

export function shardMessage(namespace: string, row: ShardRow): Shard {
  const { id, owner, nodeId, next: nextOwner, fence, epoch, weight, hint, ticket, reason, isThrottled, changedWallMs, movedWallMs } = row;
  return create(ShardSchema, {
    namespace,
    id,
    status: statusValue(row),
    owner,
    nodeId: owner === "" ? "" : nodeId,
    nextOwner,
    epoch: BigInt(epoch),
    weight,
    hint,
    ticket,
    reason,
    throttled: isThrottled,
    ...knownFence(fence),
    ...(changedWallMs > 0 && { changedAt: timestampOf(changedWallMs) }),
    ...(movedWallMs > 0 && { movedAt: timestampOf(movedWallMs) }),
  });
}

/** A shard that never had an owner has no fence. */
function knownFence(fence: FenceToken | undefined) {
  return fence !== undefined && fence.number > 0 && { fence: fenceOf(fence) };
}

/** The owners and next owners of rows. */
export function ownerMessages(namespace: string, rows: readonly ShardRow[], owners: ShardOwners): ShardOwner[] {
  return [...new Set(rows.flatMap(({ owner, next }) => [owner, next]))].flatMap((instance) => {
    const { value } = owners.get(instance) ?? {};
    if (value === undefined) return [];
    const { target, nodeId, zone, region, weight, slots, isLeaving: leaving, health } = value;
    const place = { target, nodeId, zone, region };
    return [create(ShardOwnerSchema, { namespace, instance, ...place, weight, slots, leaving, health: HealthStatus[enumName(health)] })];
  });
}

export function setMessage(map: ShardMap, owners: ShardOwners): ShardSet {
  const { namespace, rows, epoch, checksum, set } = map;
  return create(ShardSetSchema, {
    namespace,
    settings: settingsMessage(set.value),
    epoch: BigInt(epoch),
    checksum,
    ownerCount: owners.size,
    unownedCount: rows.filter(isUnowned).length,
    oldestEpoch: BigInt(set.value.oldestEpoch),
    ...frozenField(map),
  });
}

export function frozenField({ set: { value } }: ShardMap) {
  return value.frozenUntilWallMs > 0 && { frozenUntil: timestampOf(value.frozenUntilWallMs) };
}

function settingsMessage(settings: ShardSettings) {
  const { count, service, strategy, approval, onStoreLoss, maxParallelMoves, cooldownMs, prepareMs, drainMs } = settings;
  return {
    count,
    service,
    strategy: ShardStrategy[enumName(strategy)],
    approval: ShardApproval[enumName(approval)],
    onStoreLoss: StoreLossBehavior[enumName(onStoreLoss)],
    maxParallelMoves,
    cooldown: durationFromMs(cooldownMs),
    prepareTimeout: durationFromMs(prepareMs),
    drainTimeout: durationFromMs(drainMs),
    overload: {
      depth: BigInt(settings.maxDepth),
      latency: durationFromMs(settings.maxLatencyMs),
      errorRatio: settings.maxErrorRatio,
      duration: durationFromMs(settings.overloadMs),
    },
  };
}

/** Parses the words of a parameter, which are separated by commas. Throws `invalid_argument`. */
export function wordsIn<E extends ProtoEnum>(list: string, values: E, field: string): E[keyof E][] {
  const known = Object.values(values).flatMap((value) => (typeof value === "number" && value > 0 ? [enumWord(values, value)] : []));
  const asked = list === "" ? [] : list.split(",");
  const wrong = asked.find((word) => !known.includes(word));
  if (wrong !== undefined) throw invalid(field, `must be ${known.join(", ")}, got ${JSON.stringify(wrong.slice(0, 64))}`);
  return asked.map((word) => enumValue(values, word));
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

export function changeMessage({ epoch, wallMs, actor, reason, ticket, rows }: ShardChange): WireChange {
  const shards = rows.map(differenceMessage);
  return create(ShardChangeSchema, { epoch: BigInt(epoch), changedAt: timestampOf(wallMs), actor, reason, ticket, shards });
}

export function differenceMessage({ id, before, after }: RowChange): ShardDifference {
  return create(ShardDifferenceSchema, { id, before: stateMessage(before), after: stateMessage(after) });
}

function stateMessage({ owner, next: nextOwner, fence, status }: RowState) {
  return { status: enumValue(ShardStatus, status), owner, nextOwner, ...knownFence(parseFence(`shard;${fence}`)?.fence) };
}

export function ownedMessage({ id, state, fence, epoch, isThrottled: throttled }: OwnedShard) {
  return { id, state: OwnedShardState[enumName(state)], epoch: BigInt(epoch), throttled, ...knownFence(fence) };
}
