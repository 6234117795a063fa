/** Metrics of the shards of a cluster: their states on each node, and the moves that the controller has made. */
import { isUnowned, type ShardMap, type ShardMaps, type ShardPlans, type ShardRow } from "../../control/shards/maps.ts";
import { imbalanceOf } from "../../control/shards/plan.ts";
import { currentPlan, liveOwners, planInput, rebalanceState, SET_STATES } from "../../control/shards/rebalancing.ts";
import type { Time } from "../../lib/machine.ts";
import { METRICS, type Metrics } from "../../lib/metrics/metrics.ts";

type Maps = Pick<ShardMaps, "map" | "namespaces" | "owners" | "plans">;
type Owners = ReturnType<ShardMaps["owners"]>;

/** The inputs from which the gauges of a set were computed. */
interface ObservedSet {
  readonly map: ShardMap;
  readonly plans: ShardPlans;
  readonly owners: string;
}

const STATUSES = METRICS.mesh_shards.labels.status;

export class ShardMetrics {
  readonly #metrics: Metrics;
  readonly #maps: Maps;
  readonly #observed = new Map<string, ObservedSet>();

  constructor(metrics: Metrics, maps: Maps) {
    this.#metrics = metrics;
    this.#maps = maps;
  }

  /** Sets the gauges of the sets that have changed since the last call. */
  observe(time: Time): void {
    for (const namespace of this.#maps.namespaces) {
      const [map, plans, records] = [this.#maps.map(namespace), this.#maps.plans(namespace), this.#maps.owners(namespace)];
      const owners = [...records].map(([name, { value }]) => `${name} ${value?.weight} ${value?.slots} ${value?.isLeaving}`).join("\n");
      const known = this.#observed.get(namespace);
      if (map === undefined || (known?.map === map && known.plans === plans && known.owners === owners)) continue;
      this.#observed.set(namespace, { map, plans, owners });
      const state = rebalanceState(map, currentPlan(plans)?.value);
      for (const each of SET_STATES) this.#metrics.set("mesh_rebalance_state", { namespace, state: each }, each === state ? 1 : 0);
      this.#observeShards(map, records, time);
    }
  }

  /** Counts a change of a row, if it ends a move. */
  count(namespace: string, before: ShardRow, after: ShardRow, { monoMs }: Time): void {
    const { value } = this.#maps.owners(namespace).get(before.owner) ?? {};
    const outcome = moveOutcome(before, after);
    if (outcome === undefined) return;
    const isLeaving = value === undefined || value.isLeaving;
    const reason = before.owner === "" ? "unowned" : before.next === "" && !before.isDraining ? "ended" : isLeaving ? "leaving" : "plan";
    this.#metrics.inc("mesh_shard_moves_total", { reason, outcome });
    if (before.isDraining && outcome === "done") this.#metrics.observe("mesh_shard_handover_ms", {}, monoMs - before.sinceMs);
  }

  #observeShards(map: ShardMap, owners: Owners, time: Time): void {
    const { namespace, rows } = map;
    const counts = new Map<string, number>();
    const owned = new Map<string, number>();
    for (const row of rows) {
      const status = isUnowned(row) ? "unowned" : row.isDraining ? "draining" : row.mode;
      counts.set(status, (counts.get(status) ?? 0) + 1);
      owned.set(row.owner, (owned.get(row.owner) ?? 0) + 1);
    }
    for (const status of STATUSES) this.#metrics.set("mesh_shards", { namespace, status }, counts.get(status) ?? 0);
    const usedRatios = [...owners].map(([name, { value }]) =>
      value === undefined || value.slots === 0 ? 0 : (owned.get(name) ?? 0) / value.slots,
    );
    this.#metrics.set("mesh_shard_slots_used_ratio", { namespace }, Math.max(0, ...usedRatios));
    this.#metrics.set("mesh_shard_imbalance_ratio", { namespace }, imbalanceOf(inputOf(map, owners, time)));
  }
}

function moveOutcome(before: ShardRow, after: ShardRow): "done" | "failed" | undefined {
  if (after.mode === "disabled") return undefined;
  if (after.owner !== before.owner) return after.owner === "" ? "failed" : "done";
  return before.next !== "" && after.next === "" ? "failed" : undefined;
}

/** Whether an attached owner accepts another shard. */
export function hasRoom(map: ShardMap, owners: Owners, time: Time): boolean {
  return inputOf(map, owners, time).owners.some(
    ({ instance, slots, isLeaving, isClosed }) => !isLeaving && !isClosed && (slots === 0 || map.rowsOf(instance).length < slots),
  );
}

function inputOf(map: ShardMap, owners: Owners, time: Time) {
  return planInput(
    map,
    liveOwners(owners, () => false),
    { out: new Set(), homeless: new Set() },
    time,
  );
}
