/** Turns the orders of operators into transactions. A transaction fails if a record that it depends on has changed meanwhile. */
import type { Time } from "../../lib/machine.ts";
import { counted } from "../../lib/text/visible-text.ts";
import type { StoreCondition, StoreWrite } from "../../store/control/store.ts";
import type { OrderRefusal } from "../leadership/io-types.ts";
import { encodeRecord } from "../leadership/records.ts";
import { changeOf, type ShardEdits } from "./change.ts";
import type { ChangeOrigin, ShardOrder } from "./io-types.ts";
import { ShardMap, type ShardMaps, type ShardPlans } from "./maps.ts";
import { currentPlan, type LiveOwners, neededMoves, planOf } from "./rebalancing.ts";
import { MAX_CLUSTER_SHARDS, PLANS, type PlanRecord, planJson, SHARD_SETS } from "./records.ts";

export interface OrderParts {
  readonly maps: ShardMaps;
  /** The owners of the namespace whose sessions have not ended. */
  readonly live: LiveOwners;
  readonly newId: () => string;
  readonly historyCount: number;
}

export interface OrderedChange {
  readonly conditions: readonly StoreCondition[];
  readonly writes: readonly StoreWrite[];
  /** Whether the maps show the change. */
  readonly isShown: () => boolean;
}

const NEW_SET = { epoch: 0, rowsEpoch: 0, checksum: "", oldestEpoch: 1, frozenUntilWallMs: 0, isDeleted: false } as const;

/** Returns the transaction of an order, or why it is refused. */
export function orderedChange(order: ShardOrder, parts: OrderParts, time: Time): OrderedChange | OrderRefusal {
  const { namespace, expectedEpoch } = order;
  const map = parts.maps.map(namespace);
  const epoch = map?.set.value.epoch ?? 0;
  if (expectedEpoch !== undefined && expectedEpoch !== epoch)
    return { reason: "version_conflict", message: `the set ${namespace} has the epoch ${epoch}, not ${expectedEpoch}; read it again` };
  if (order.kind === "apply") return applied(order, map, parts, time);
  if (map === undefined) return { reason: "not_found", message: `the namespace ${namespace} has no shards` };
  const settings = map.set.value;
  switch (order.kind) {
    case "setShard": {
      const row = map.rows[order.id];
      if (row === undefined)
        return { reason: "not_found", message: `${namespace} has the shards 0 to ${map.rows.length - 1}, not ${order.id}` };
      const { mode = row.mode, weight = row.weight, hint = row.hint, reason, ticket } = order;
      return edited({ map, settings, rows: [{ ...row, mode, weight, hint, reason, ticket }] }, order, parts, time);
    }
    case "freeze":
      return edited({ map, settings: { ...settings, frozenUntilWallMs: order.untilWallMs }, rows: [] }, order, parts, time);
    case "delete":
      return deleted(order, map, parts, time);
    case "propose":
      return proposed(order, map, parts, time);
    case "approve":
    case "cancel":
      return decided(order, map, parts);
  }
}

function applied(order: ShardOrder & { readonly kind: "apply" }, map: ShardMap | undefined, parts: OrderParts, time: Time) {
  const { settings, namespace } = order;
  const { count } = settings;
  if (map !== undefined && map.rows.length !== count) {
    const message = `settings.count: must stay ${map.rows.length} until the set is deleted`;
    return { reason: "invalid_argument", message } as const;
  }
  const { maps } = parts;
  const otherCount = maps.namespaces.reduce((sum, each) => sum + (each === namespace ? 0 : (maps.map(each)?.rows.length ?? 0)), 0);
  if (otherCount + count > MAX_CLUSTER_SHARDS) {
    const message = `the other sets have ${otherCount} shards; a cluster has at most ${MAX_CLUSTER_SHARDS}`;
    return { reason: "quota_exceeded", message } as const;
  }
  const earlier = maps.deleted(namespace);
  if (earlier !== undefined && earlier.value.oldestEpoch <= earlier.value.epoch)
    return { reason: "version_conflict", message: `the earlier shards of ${namespace} are being removed; retry later` } as const;
  const { version, value } = earlier ?? { version: 0, value: NEW_SET };
  const empty = { ...settings, ...NEW_SET, epoch: value.epoch, oldestEpoch: value.oldestEpoch };
  const base = map ?? new ShardMap(namespace, { version, sinceMs: 0, value: empty }, []);
  return edited({ map: base, settings: { ...base.set.value, ...settings }, rows: [] }, order, parts, time);
}

function deleted(order: ShardOrder & { readonly kind: "delete" }, map: ShardMap, parts: OrderParts, time: Time) {
  const { maps } = parts;
  const ownerCount = maps.owners(map.namespace).size;
  if (ownerCount > 0) {
    const message = `namespace: ${counted(ownerCount, "instance")} of ${map.set.value.service} can own shards of it; stop them first`;
    return { reason: "invalid_argument", message } as const;
  }
  const settings = { ...map.set.value, isDeleted: true };
  return { ...edited({ map, settings, rows: [] }, order, parts, time), isShown: () => maps.map(map.namespace) === undefined };
}

function edited(
  edits: Pick<ShardEdits, "map" | "rows" | "settings">,
  { actor, reason, ticket, namespace }: ShardOrder,
  { maps, newId, historyCount }: OrderParts,
  time: Time,
): OrderedChange {
  const { epoch, conditions, writes } = changeOf({ ...edits, origin: { actor, reason, ticket }, historyCount }, time, newId());
  return { conditions, writes, isShown: () => (maps.map(namespace)?.epoch ?? 0) >= epoch };
}

function proposed(order: ShardOrder & { readonly kind: "propose" }, map: ShardMap, { maps, live }: OrderParts, time: Time) {
  const plan = proposedPlan(order, map, { plans: maps.plans(map.namespace), live }, time);
  if (!("moves" in plan)) return plan;
  const head = { key: SHARD_SETS + map.namespace, version: map.set.version };
  return planChange(maps, { id: order.planId, version: 0 }, plan, [head]);
}

/** The plan that an operator proposes, or why it is refused. */
export function proposedPlan(
  { isForced, ...origin }: ChangeOrigin & { readonly isForced: boolean },
  map: ShardMap,
  { plans, live }: { readonly plans: ShardPlans; readonly live: LiveOwners },
  time: Time,
): PlanRecord | OrderRefusal {
  const current = currentPlan(plans);
  if (current !== undefined)
    return { reason: "version_conflict", message: `the plan ${current.id} has not ended; approve or cancel it first` };
  const moves = neededMoves(map, live, { isForced }, time);
  if (live.size === 0) {
    const message = `the shards of ${map.namespace} have no owners: attach instances of the service ${map.set.value.service} first`;
    return { reason: "not_found", message };
  }
  if (moves.length === 0) return { reason: "not_found", message: `the shards of ${map.namespace} are balanced: no shard must move` };
  return planOf(map, moves, origin, time);
}

function decided(
  order: ShardOrder & { readonly kind: "approve" | "cancel" },
  map: ShardMap,
  { maps }: OrderParts,
): OrderedChange | OrderRefusal {
  const { actor, planId: id } = order;
  const item = maps.plans(map.namespace).get(id);
  if (item === undefined) return { reason: "not_found", message: `there is no plan ${id}` };
  const { value: plan, version } = item;
  const conflict = (message: string): OrderRefusal => ({ reason: "version_conflict", message });
  if (order.kind === "cancel") {
    if (plan.state !== "pending" && plan.state !== "running") return conflict(`the plan ${id} has ended: ${plan.state}`);
    return planChange(
      maps,
      { id, version },
      { ...plan, state: "cancelled", cancelledBy: actor, detail: order.reason || `${actor} cancelled it` },
      [],
    );
  }
  if (plan.state !== "pending") return conflict(`the plan ${id} does not wait for approval: it is ${plan.state}`);
  if (plan.checksum !== order.checksum) return conflict(`the plan ${id} has the checksum ${plan.checksum}; read it again`);
  if (plan.epoch !== map.epoch) return conflict(`the plan ${id} was made for the epoch ${plan.epoch}, and the map has ${map.epoch}`);
  if (map.set.value.approval === "other" && plan.author === actor)
    return {
      reason: "discovery_access_denied",
      message: `permission denied: ${actor} is the author of the plan ${id}, and another operator must approve it`,
    };
  return planChange(maps, { id, version }, { ...plan, state: "running", approvedBy: actor }, []);
}

function planChange(
  maps: ShardMaps,
  { id, version }: { readonly id: string; readonly version: number },
  plan: PlanRecord,
  conditions: readonly StoreCondition[],
): OrderedChange {
  const namespace = id.slice(0, id.indexOf("/"));
  return {
    conditions: [{ key: PLANS + id, version }, ...conditions],
    writes: [{ key: PLANS + id, value: encodeRecord(planJson(plan)) }],
    isShown: () => (maps.plans(namespace).get(id)?.version ?? 0) !== version,
  };
}
