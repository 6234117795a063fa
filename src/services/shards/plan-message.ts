/** Encodes plans, and the status of a set with its newest plan, as messages of the contract. */
import { create, equals } from "@bufbuild/protobuf";
import {
  type RebalancePlan,
  RebalancePlanSchema,
  RebalanceState,
  type RebalanceStatus,
  RebalanceStatusSchema,
} from "../../../gen/waymark/control/v1/rebalance_pb.js";
import type { ShardMap, ShardPlans } from "../../control/shards/maps.ts";
import { currentPlan, progressOf, rebalanceState } from "../../control/shards/rebalancing.ts";
import type { PlanRecord } from "../../control/shards/records.ts";
import { enumName } from "../../lib/enum-words.ts";
import { timestampOf } from "../contract.ts";
import type { ShardSource } from "./source.ts";

export function planMessage(id: string, plan: PlanRecord, map: ShardMap): RebalancePlan {
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
export function stateOf(map: ShardMap, plans: ShardPlans): RebalanceState {
  return RebalanceState[enumName(rebalanceState(map, currentPlan(plans)?.value))];
}

/** The status of each map, which streams share. */
const STATUSES = new WeakMap<ShardMap, { readonly plans: ShardPlans; readonly status: RebalanceStatus }>();

function statusOf(map: ShardMap, plans: ShardPlans): RebalanceStatus {
  const known = STATUSES.get(map);
  if (known?.plans === plans) return known.status;
  const current = currentPlan(plans);
  const [id, item] = current === undefined ? ([...plans].at(-1) ?? []) : [current.id, current];
  const plan = id !== undefined && item && { ...planMessage(id, item.value, map), moves: [] };
  const status = create(RebalanceStatusSchema, { state: stateOf(map, plans), ...(plan && { plan }) });
  STATUSES.set(map, { plans, status });
  return status;
}

/** Returns a function that returns the status of a set and its newest plan, or undefined if it is the same as in the last call. */
export function statusReader({ maps }: ShardSource, namespace: string): () => RebalanceStatus | undefined {
  let last: RebalanceStatus | undefined;
  return () => {
    const map = maps.map(namespace);
    const status = map && statusOf(map, maps.plans(namespace));
    if (status === undefined || status === last) return undefined;
    const isSame = last !== undefined && equals(RebalanceStatusSchema, last, status);
    last = status;
    return isSame ? undefined : status;
  };
}
