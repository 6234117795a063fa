/** Encodes plans and the states of sets as messages of the contract. */
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
  const { createdWallMs, epoch, moves: groups, state: _state, ...texts } = plan;
  const state = rebalanceState(map, plan);
  const moves = groups
    .flatMap(({ from: before, to: after, ids }) => [...ids].map((shard) => ({ id: shard, before, after })))
    .toSorted((a, b) => a.id - b.id);
  const totalCount = moves.length;
  const movedCount = state === "completed" ? totalCount : state === "rebalancing" ? progressOf(plan, map).movedCount : 0;
  const made = { createdAt: timestampOf(createdWallMs), epoch: BigInt(epoch), moves, movedCount, totalCount };
  return create(RebalancePlanSchema, { id, state: RebalanceState[enumName(state)], ...texts, ...made });
}

interface KnownStatus {
  readonly map: ShardMap;
  readonly plans: ShardPlans;
  readonly status: RebalanceStatus;
}

/** The states of sets and their newest plans, which streams share. */
export class PlanFeed {
  readonly #maps: ShardSource["maps"];
  readonly #known = new Map<string, KnownStatus>();

  constructor({ maps }: ShardSource) {
    this.#maps = maps;
  }

  /** Returns the same object until the status changes. Undefined if the namespace has no set. */
  status(namespace: string): RebalanceStatus | undefined {
    const map = this.#maps.map(namespace);
    if (map === undefined) return undefined;
    const [plans, known] = [this.#maps.plans(namespace), this.#known.get(namespace)];
    if (known?.map === map && known.plans === plans) return known.status;
    const state = RebalanceState[enumName(rebalanceState(map, currentPlan(plans)?.value))];
    const { id = "", value } = currentPlan(plans) ?? newestPlan(plans) ?? {};
    const made = create(RebalanceStatusSchema, { state, ...(value && { plan: { ...planMessage(id, value, map), moves: [] } }) });
    const status = known !== undefined && equals(RebalanceStatusSchema, known.status, made) ? known.status : made;
    this.#known.set(namespace, { map, plans, status });
    return status;
  }
}

function newestPlan(plans: ShardPlans) {
  const [id, item] = [...plans].at(-1) ?? [];
  return item && { ...item, id };
}
