/** Plans of a set: when one is due, which shards it moves, and how far it is. */
import { sha256Hex } from "../../lib/crypto.ts";
import type { Time } from "../../lib/machine.ts";
import { counted } from "../../lib/text/visible-text.ts";
import type { CopiedItem } from "../leadership/copy.ts";
import type { ChangeOrigin } from "./io-types.ts";
import type { ShardMap, ShardRow } from "./maps.ts";
import { type Placement, type PlanInput, type PlanOwner, planLoadMoves, planMoves, type ReportedLoads } from "./plan.ts";
import type { OwnerRecord, PlannedMoves, PlanRecord, ShardSettings } from "./records.ts";

/** A plan ends after this time (ms), and a plan that waits for approval when the map changes. */
export const PLAN_MS = 15 * 60_000;
/** An owner is overloaded until all its values are below this share of the thresholds. */
const HYSTERESIS = 0.8;
/** Maximum number of plans of a set that have not ended, and of ended plans that are kept. */
export const KEPT_PLANS = 20;

export type LiveOwners = ReadonlyMap<string, OwnerRecord>;

/** The owners that are attached and whose sessions have not ended. */
export function liveOwners(
  owners: ReadonlyMap<string, CopiedItem<OwnerRecord>>,
  hasEnded: (session: string, version: number) => boolean,
): LiveOwners {
  const live = [...owners].flatMap(([instance, { value, version }]): [string, OwnerRecord][] =>
    value === undefined || hasEnded(value.session, version) ? [] : [[instance, value]],
  );
  return new Map(live);
}

const NO_OWNERS: ReadonlySet<string> = new Set();

export interface PlanScope {
  /** Owners that give up their shards, and owners that take no more. */
  readonly out?: ReadonlySet<string>;
  readonly closed?: ReadonlySet<string>;
  /** Shards that need an owner. Other shards whose owner is not live count, but are not placed. */
  readonly homeless?: ReadonlySet<number>;
}

/** The input of a plan. */
export function planInput(
  map: ShardMap,
  owners: LiveOwners,
  { out = NO_OWNERS, closed = NO_OWNERS, homeless = new Set() }: PlanScope,
  { wallMs }: Time,
): PlanInput {
  const { strategy, cooldownMs } = map.set.value;
  const listed = [...owners].map(([instance, record]): PlanOwner => {
    const { weight, zone, region, slots, health } = record;
    const isClosed = health === "degraded" || closed.has(instance);
    return { instance, weight, zone, region, slots, isLeaving: record.isLeaving || out.has(instance), isClosed };
  });
  const shards = map.rows
    .filter(({ mode, owner }) => mode !== "disabled" || owner !== "")
    .map((row) => {
      const { id, weight, hint, mode, movedWallMs, next, isDraining } = row;
      const isHomeless = homeless.has(id);
      const current = owners.get(row.owner);
      const isRested = wallMs >= movedWallMs + cooldownMs && mode === "active";
      const isReady = current !== undefined && next === "" && !isDraining;
      const mayMove = isHomeless || (isReady && (isRested || (current.isLeaving && mode !== "disabled")));
      return { id, weight, hint, owner: isHomeless ? "" : next || row.owner, mayMove };
    });
  return { namespace: map.namespace, strategy, owners: listed, shards };
}

/** Whether an owner is above a threshold, or was above one and is not below all of them by a fifth. */
export function isOverloaded({ load, health }: OwnerRecord, settings: ShardSettings, was: boolean): boolean {
  const share = was ? HYSTERESIS : 1;
  const isAbove = (value: number, most: number) => most > 0 && value > most * share;
  return (
    health === "critical" ||
    isAbove(load.depth, settings.maxDepth) ||
    isAbove(load.latencyMs, settings.maxLatencyMs) ||
    isAbove(load.errorRatio, settings.maxErrorRatio)
  );
}

/**
 * The moves that a set needs now. `hot` owners were overloaded for long enough, and `closed` ones get no more shards. Owners that leave by themselves need
 * no plan.
 */
export function neededMoves(
  map: ShardMap,
  owners: LiveOwners,
  {
    hot = NO_OWNERS,
    closed = NO_OWNERS,
    isForced,
  }: { readonly hot?: ReadonlySet<string>; readonly closed?: ReadonlySet<string>; readonly isForced: boolean },
  time: Time,
): readonly Placement[] {
  const out = new Set<string>();
  for (const [instance, { health }] of owners)
    if (health === "maintenance" || (health === "critical" && hot.has(instance))) out.add(instance);
  const input = planInput(map, owners, { out, closed }, time);
  const moves = planMoves(input, { isForced }).filter(({ from }) => owners.get(from)?.isLeaving !== true);
  return moves.length > 0 ? moves : planLoadMoves(input, reportedLoads(owners, hot));
}

function reportedLoads(owners: LiveOwners, hot: ReadonlySet<string>): ReportedLoads {
  const loads = [...owners].map(([instance, { load }]): [string, number] => [instance, load.items]);
  return { shards: new Map(owners.values().flatMap(({ load }) => load.hottest)), owners: new Map(loads), hot };
}

/** The record of a plan with these moves. */
export function planOf(map: ShardMap, moves: readonly Placement[], { actor, reason, ticket }: ChangeOrigin, { wallMs }: Time): PlanRecord {
  const grouped = new Map<string, { from: string; to: string; ids: Set<number> }>();
  for (const { id, from, to } of moves) {
    const group = grouped.get(`${from} ${to}`) ?? { from, to, ids: new Set() };
    grouped.set(`${from} ${to}`, group);
    group.ids.add(id);
  }
  const lines = moves.map(({ id, from, to }) => `${id} ${from} ${to}\n`);
  const checksum = sha256Hex(`${map.epoch} ${map.checksum}\n${lines.join("")}`).slice(0, 16);
  const needsApproval = map.set.value.approval !== "none";
  return {
    state: needsApproval ? "pending" : "running",
    author: actor,
    reason: reason || [...new Set(moves.map((move) => move.reason))].join("; "),
    ticket,
    approvedBy: "",
    cancelledBy: "",
    createdWallMs: wallMs,
    epoch: map.epoch,
    checksum,
    moves: [...grouped.values()],
    detail: "",
  };
}

/** How far a plan is. A row that has changed since the plan was made, and that neither moves nor has moved, was tried. */
export interface PlanProgress {
  readonly waiting: readonly { readonly row: ShardRow; readonly to: string }[];
  readonly movingCount: number;
  readonly movedCount: number;
  readonly totalCount: number;
}

export function progressOf({ epoch, moves }: PlanRecord, map: ShardMap): PlanProgress {
  const all = moves.flatMap(({ from, to, ids }: PlannedMoves) =>
    [...ids].flatMap((id) => (map.rows[id] === undefined ? [] : [{ row: map.rows[id], from, to }])),
  );
  return {
    waiting: all.filter(({ row, from }) => row.owner === from && row.next === "" && !row.isDraining && row.epoch <= epoch),
    movingCount: all.filter(({ row, to }) => row.next === to).length,
    movedCount: all.filter(({ row, to }) => row.owner === to).length,
    totalCount: all.length,
  };
}

/** The plan that has not ended. */
export function currentPlan<I extends { readonly value: PlanRecord }>(
  plans: ReadonlyMap<string, I>,
): (I & { readonly id: string }) | undefined {
  for (const [id, item] of plans) if (item.value.state === "pending" || item.value.state === "running") return { ...item, id };
  return undefined;
}

/** The states of a set: the state of its plan that has not ended, or without such a plan, whether the shard of an overloaded owner is throttled. */
export const SET_STATES = ["steady", "investigating", "rebalance-pending", "draining", "rebalancing"] as const;
export type RebalanceState = (typeof SET_STATES)[number] | Exclude<PlanRecord["state"], "pending" | "running">;

/** The state of a plan of a set, or without a plan, the state of the set. */
export function rebalanceState(map: ShardMap, plan: PlanRecord | undefined): RebalanceState {
  if (plan === undefined) return map.rows.some(({ isThrottled }) => isThrottled) ? "investigating" : "steady";
  if (plan.state === "pending") return "rebalance-pending";
  if (plan.state !== "running") return plan.state;
  return progressOf(plan, map).movedCount === 0 ? "draining" : "rebalancing";
}

/** The plan after a look at it. Returns the same plan if nothing has changed. */
export function lookedAt(plan: PlanRecord, map: ShardMap, live: LiveOwners, { wallMs }: Time): PlanRecord {
  const isLate = wallMs >= plan.createdWallMs + PLAN_MS;
  if (plan.state === "pending") {
    if (isLate) return { ...plan, state: "cancelled", detail: "no operator approved it in time" };
    return map.epoch === plan.epoch ? plan : { ...plan, state: "cancelled", detail: `the map has changed to epoch ${map.epoch}` };
  }
  const { waiting, movingCount, movedCount, totalCount } = progressOf(plan, map);
  // A move to an owner that has ended never begins.
  const canBegin = waiting.some(({ to }) => live.get(to)?.isLeaving === false);
  if (!isLate && (canBegin || movingCount > 0)) return plan;
  if (movedCount === totalCount) return { ...plan, state: "completed", detail: `${counted(movedCount, "shard")} moved` };
  return {
    ...plan,
    state: "failed",
    detail: `${movedCount} of ${counted(totalCount, "shard")} moved${isLate ? ", and the time is over" : ""}`,
  };
}
