/**
 * The controller of shards: the node that leads `global-control` assigns the shards of all sets to their owners, and moves them from one owner to
 * another. The design is Apache Helix's (Gopalakrishna et al., SoCC 2012); a move has the phases of Shard Manager's graceful migration (Lee et al.,
 * SOSP 2021): the next owner prepares, the owner drains, and the next owner acts. Each change has the condition of the controller's lease.
 */
import { NEVER, type Time } from "../../lib/machine.ts";
import type { StoreCondition, StoreWrite, TransactResult } from "../../store/control/store.ts";
import type { CopiedItem } from "../leadership/copy.ts";
import type { Leadership } from "../leadership/machine.ts";
import { encodeRecord, LEADERS, SESSIONS } from "../leadership/records.ts";
import { GLOBAL_SCOPE } from "../leadership/scope.ts";
import { RETRY_MS } from "../leadership/session.ts";
import { changeOf, MAX_CHANGED_ROWS } from "./change.ts";
import type { ShardOutput } from "./io-types.ts";
import type { ShardMap, ShardMaps, ShardRow } from "./maps.ts";
import { planMoves } from "./plan.ts";
import {
  currentPlan,
  isOverloaded,
  KEPT_PLANS,
  type LiveOwners,
  liveOwners,
  lookedAt,
  neededMoves,
  PLAN_MS,
  planInput,
  planOf,
  progressOf,
} from "./rebalancing.ts";
import { historyKey, type OwnerRecord, ownerKey, PLANS, type PlanRecord, planJson, rowKey, SHARD_SETS } from "./records.ts";
import { SetLook } from "./set-look.ts";

export interface ControllerOptions {
  readonly machine: Leadership;
  readonly maps: ShardMaps;
  readonly nodeId: string;
  readonly leaseMs: number;
  readonly isOwnStore: boolean;
  /** Returns a random id. */
  readonly newId: () => string;
  /** Number of changes that the history of a set keeps. */
  readonly historyCount: number;
}

/** Time between two looks at the balance of a set. */
const BALANCE_MS = 5000;

/** Facts about a set that are not in the store. Another controller starts without them. */
interface SetState {
  /** Monotonic time (ms) before which no change is sent, unless the copies show the last one. `NEVER` while a request is pending. */
  retryMs: number;
  /** Whether the copies show the effect of the last request. */
  isShown: () => boolean;
  dueMs: number;
  balanceMs: number;
  /** The monotonic time (ms) at which this node noticed that an owner has no record, that its session has ended, or that it is overloaded. */
  readonly noticedMs: Map<string, number>;
  readonly endedMs: Map<string, number>;
  readonly hotMs: Map<string, number>;
  /** The monotonic time (ms) since which there are owners, while no shard has one. */
  attachedMs: number | undefined;
  /** The owners at the last look. */
  known: ReadonlySet<string>;
  /** The monotonic time (ms) at which this node last noticed that an owner was gone, or was not ready in time as the next owner. */
  readonly restingMs: Map<string, number>;
}

interface Look {
  readonly map: ShardMap;
  readonly live: LiveOwners;
  readonly set: SetLook;
  readonly state: SetState;
  /** The condition that the session of this node is still the same. */
  readonly session: StoreCondition;
  readonly time: Time;
  readonly out: ShardOutput[];
}

export class ShardController {
  readonly #options: ControllerOptions;
  readonly #states = new Map<string, SetState>();
  readonly #dirty = new Set<string>();
  #moved: ShardOutput[] = [];
  #isLeader = false;
  #lookedMs = Number.NEGATIVE_INFINITY;

  constructor(options: ControllerOptions) {
    this.#options = options;
  }

  nextDeadlineMs(): number {
    if (!this.#isLeader) return NEVER;
    // Everything that was due at the last look has been done, or waits for an answer.
    return this.#states.values().reduce((next, { dueMs }) => (dueMs > this.#lookedMs ? Math.min(next, dueMs) : next), NEVER);
  }

  /** The moves and plans that were committed since the last call. */
  takeMoved(): readonly ShardOutput[] {
    const moved = this.#moved;
    this.#moved = [];
    return moved;
  }

  look(touched: ReadonlySet<string>, time: Time, out: ShardOutput[]): void {
    const { machine, maps } = this.#options;
    const wasLeader = this.#isLeader;
    this.#lookedMs = time.monoMs;
    this.#isLeader = machine.held(GLOBAL_SCOPE, time) !== undefined;
    if (!this.#isLeader) {
      this.#states.clear();
      return;
    }
    for (const namespace of wasLeader ? touched : maps.namespaces) this.#dirty.add(namespace);
    for (const [namespace, { dueMs }] of this.#states) if (time.monoMs >= dueMs) this.#dirty.add(namespace);
    const session = machine.ownSession(time)?.condition;
    // A pending renewal changes the version of the session.
    if (session === undefined || !maps.isRead) return;
    for (const namespace of this.#dirty) this.#decide(namespace, session, time, out);
    this.#dirty.clear();
  }

  #decide(namespace: string, session: StoreCondition, time: Time, out: ShardOutput[]): void {
    const { machine, maps, leaseMs } = this.#options;
    const map = maps.map(namespace);
    const deleted = maps.deleted(namespace);
    if (map === undefined && deleted === undefined) {
      this.#states.delete(namespace);
      return;
    }
    const state = this.#stateOf(namespace, time);
    state.dueMs = state.retryMs;
    if (state.retryMs === NEVER || (time.monoMs < state.retryMs && !state.isShown())) return;
    if (map === undefined) {
      if (deleted !== undefined) this.#clear(namespace, deleted, session, state, out);
      return;
    }
    const owners = maps.owners(namespace);
    const live = liveOwners(owners, (name, version) => machine.hasEnded(name, version));
    const { revision, store } = machine;
    if (live.size === 0 || map.rows.some(({ owner }) => owner !== "")) state.attachedMs = undefined;
    else state.attachedMs ??= time.monoMs;
    const { attachedMs } = state;
    const set = new SetLook({
      map,
      owners,
      live,
      attachedMs,
      leaseMs,
      revision,
      time,
      storeEpoch: store?.epoch ?? 0,
      noticedMs: state.noticedMs,
    });
    for (const instance of state.known) if (!live.has(instance)) state.restingMs.set(instance, time.monoMs);
    state.known = new Set(live.keys());
    const look: Look = { map, live, set, state, session, time, out };
    const hasSent = this.#removeEnded(look) || (set.decide(), this.#move(look)) || this.#write(look);
    if (!hasSent) state.dueMs = set.dueMs;
  }

  /** Removes the next rows and plans of a deleted set, or the next part of its history if no row or plan is left. */
  #clear(namespace: string, { version, value }: ShardMap["set"], session: StoreCondition, state: SetState, out: ShardOutput[]): void {
    const { machine, maps } = this.#options;
    const rowKeys = Array.from({ length: value.count }, (_, id) => rowKey(namespace, id)).filter((key) => machine.leaderItems.has(key));
    const found = [...rowKeys, ...[...maps.plans(namespace).keys()].map((id) => PLANS + id)].slice(0, MAX_CHANGED_ROWS);
    const oldestEpoch = found.length > 0 ? value.oldestEpoch : Math.min(value.oldestEpoch + MAX_CHANGED_ROWS, value.epoch + 1);
    const epochs = Array.from({ length: oldestEpoch - value.oldestEpoch }, (_, i) => value.oldestEpoch + i);
    const keys = [...found, ...epochs.map((epoch) => historyKey(namespace, epoch))];
    const key = SHARD_SETS + namespace;
    const writes = [{ key, value: encodeRecord({ ...value, oldestEpoch }) }, ...keys.map((each) => ({ key: each, value: undefined }))];
    const isShown = () => maps.deleted(namespace)?.version !== version;
    if (keys.length > 0) this.#send(state, [session, { key, version }], writes, isShown, out);
    else this.#states.delete(namespace);
  }

  #stateOf(namespace: string, { monoMs }: Time): SetState {
    const known = this.#states.get(namespace);
    if (known !== undefined) return known;
    const far = Number.NEGATIVE_INFINITY;
    // The next controller lets owners attach again before it balances.
    const times = { retryMs: far, dueMs: far, balanceMs: monoMs + BALANCE_MS, attachedMs: undefined };
    const state = {
      ...times,
      isShown: () => true,
      noticedMs: new Map(),
      endedMs: new Map(),
      hotMs: new Map(),
      known: new Set<string>(),
      restingMs: new Map(),
    };
    this.#states.set(namespace, state);
    return state;
  }

  /** Removes the record of an owner whose session ended a third of a lease ago. Until then, it can attach to another node. */
  #removeEnded({ map: { namespace }, live, set, state, session, time, out }: Look): boolean {
    const { maps, leaseMs, isOwnStore } = this.#options;
    for (const instance of state.endedMs.keys()) if (live.has(instance)) state.endedMs.delete(instance);
    for (const [instance, { value, version, sinceMs }] of maps.owners(namespace)) {
      if (value === undefined || live.has(instance)) continue;
      // In a store of its own, a node has no records of sessions. Owners of its last process can act for a lease.
      const endedMs = isOwnStore ? sinceMs + leaseMs : (state.endedMs.get(instance) ?? time.monoMs);
      state.endedMs.set(instance, endedMs);
      set.isDueAt(endedMs + leaseMs / 3);
      if (time.monoMs < endedMs + leaseMs / 3) continue;
      const key = ownerKey(namespace, instance);
      const conditions = [session, { key, version }, { key: SESSIONS + value.session, version: 0 }];
      const isShown = () => maps.owners(namespace).get(instance)?.version !== version;
      return this.#send(state, conditions, [{ key, value: undefined }], isShown, out);
    }
    return false;
  }

  /** Sends a change under the lease of this node. Returns true. */
  #send(
    state: SetState,
    conditions: readonly StoreCondition[],
    writes: readonly StoreWrite[],
    isShown: () => boolean,
    out: ShardOutput[],
    onCommitted = () => {},
    isRefuted = () => false,
  ): boolean {
    const { requests, leaderItems } = this.#options.machine;
    const key = LEADERS + GLOBAL_SCOPE;
    const lease = { key, version: leaderItems.get(key)?.version ?? 0 };
    state.retryMs = NEVER;
    state.isShown = isShown;
    requests.transact([lease, ...conditions], writes, out, (result: TransactResult | undefined, { monoMs }) => {
      state.retryMs = monoMs + RETRY_MS;
      state.dueMs = monoMs;
      if (result?.isCommitted === true) onCommitted();
      else state.isShown = isRefuted;
    });
    return true;
  }

  /** Writes the changed rows. Returns false if there are none. */
  #write({ map, set, state, session, time, out }: Look): boolean {
    if (set.rows.size === 0) return false;
    const { nodeId: actor, newId, historyCount, maps } = this.#options;
    const { namespace } = map;
    const rows = [...set.rows.values()];
    const reason = [...new Set(rows.map((row) => row.reason))].join("; ");
    const edits = { map, settings: map.set.value, rows, origin: { actor, reason, ticket: "" }, historyCount };
    const change = changeOf(edits, time, newId());
    const versionOf = (instance: string) => maps.owners(namespace).get(instance)?.version ?? 0;
    const free = [...set.free].map((instance) => ({ instance, key: ownerKey(namespace, instance), version: versionOf(instance) }));
    const isShown = () => (maps.map(namespace)?.epoch ?? 0) >= change.epoch;
    const onCommitted = (): void => {
      for (const after of change.rows) {
        const before = map.rows[after.id];
        if (before === undefined) continue;
        const isLate = before.next !== "" && after.next === "" && !after.isDraining && after.owner === before.owner;
        if (isLate) state.restingMs.set(before.next, time.monoMs);
        this.#moved.push({ kind: "moved", namespace, before, after });
      }
    };
    // Another look makes another change when the copies show why the store has refused this one.
    const isRefuted = () => maps.map(namespace) !== map || free.some(({ instance, version }) => versionOf(instance) !== version);
    return this.#send(state, [session, ...change.conditions, ...free], change.writes, isShown, out, onCommitted, isRefuted);
  }

  /** Moves shards between owners that are attached, unless the set is frozen. Returns whether it has sent a change of a plan. */
  #move(look: Look): boolean {
    const { map, live, set, time } = look;
    const current = currentPlan(this.#options.maps.plans(map.namespace));
    if (set.rows.size === 0 && current !== undefined && this.#endPlan(look, current)) return true;
    const frozenMs = map.set.value.frozenUntilWallMs - time.wallMs;
    if (frozenMs > 0) {
      set.isDueAt(time.monoMs + frozenMs);
      return false;
    }
    if (set.rows.size === 0 && this.#rebalance(look, current !== undefined)) return true;
    const movingCount = map.rows.filter(({ next, isDraining }) => next !== "" || isDraining).length;
    const moves = [...leavingMoves(look), ...this.#plannedMoves(map)].filter(
      ({ row, to }) => !set.rows.has(row.id) && live.get(to)?.isLeaving === false,
    );
    const room = Math.max(0, map.set.value.maxParallelMoves - movingCount);
    for (const { row, to, reason } of moves.slice(0, room)) set.edit({ ...row, next: to, reason });
    return false;
  }

  #plannedMoves(map: ShardMap) {
    const { value: plan } = currentPlan(this.#options.maps.plans(map.namespace)) ?? {};
    return plan?.state === "running" ? progressOf(plan, map).waiting.map((move) => ({ ...move, reason: plan.reason })) : [];
  }

  /** Ends the plan if it is over. Returns whether it has sent a change. */
  #endPlan(look: Look, { id, version, value }: CopiedItem<PlanRecord> & { readonly id: string; readonly value: PlanRecord }): boolean {
    const { map, live, set, time } = look;
    const after = lookedAt(value, map, live, time);
    set.isDueAt(time.monoMs + Math.max(0, value.createdWallMs + PLAN_MS - time.wallMs));
    return after !== value && this.#writePlan(look, { id, version }, after);
  }

  /** Makes a plan if the set needs one and has none. After an operator has cancelled a plan, it waits until that plan would have ended. */
  #rebalance(look: Look, hasPlan: boolean): boolean {
    const { map, live, set, state, time } = look;
    const isDue = time.monoMs >= state.balanceMs;
    if (isDue) state.balanceMs = time.monoMs + BALANCE_MS;
    set.isDueAt(state.balanceMs);
    if (!isDue) return false;
    noteLoads(look);
    const isHot = ([, sinceMs]: readonly [string, number]) => time.monoMs >= sinceMs + map.set.value.overloadMs;
    const hot = new Set([...state.hotMs].filter(isHot).map(([instance]) => instance));
    const plans = this.#options.maps.plans(map.namespace).values();
    const isCancelled = plans.some(({ value }) => value.cancelledBy !== "" && time.wallMs < value.createdWallMs + PLAN_MS);
    const moves =
      !hasPlan && !isCancelled && set.rows.size === 0
        ? neededMoves(map, live, { hot, closed: restingOwners(look), isForced: false }, time)
        : [];
    if (moves.length === 0) return false;
    const { nodeId: actor, newId } = this.#options;
    const id = `${map.namespace}/${map.epoch}-${newId().slice(0, 8)}`;
    return this.#writePlan(look, { id, version: 0 }, planOf(map, moves, { actor, reason: "", ticket: "" }, time));
  }

  /** Writes a plan that has this version in the copy, and removes the oldest plans. Returns true. */
  #writePlan(
    { map, state, session, out }: Look,
    { id, version }: { readonly id: string; readonly version: number },
    plan: PlanRecord,
  ): boolean {
    const { maps } = this.#options;
    const key = PLANS + id;
    const plans = () => maps.plans(map.namespace);
    const old = [...plans().keys()].slice(0, -KEPT_PLANS).filter((each) => each !== id);
    const writes = [{ key, value: encodeRecord(planJson(plan)) }, ...old.map((each) => ({ key: PLANS + each, value: undefined }))];
    const isShown = () => (plans().get(id)?.version ?? 0) !== version;
    return this.#send(state, [session, { key, version }], writes, isShown, out, () => this.#moved.push({ kind: "planned", id, plan }));
  }
}

/** The moves from owners that leave by themselves. They need no plan and no approval. Resting owners get shards only if there is no other owner. */
function leavingMoves(look: Look): readonly { readonly row: ShardRow; readonly to: string; readonly reason: string }[] {
  const { map, live, time } = look;
  if (!live.values().some(({ isLeaving }) => isLeaving)) return [];
  const resting = restingOwners(look);
  const isOpen = [...live].some(([instance, { isLeaving }]) => !isLeaving && !resting.has(instance));
  const moves = planMoves(planInput(map, live, isOpen ? { closed: resting } : {}, time), { isForced: false });
  return moves.flatMap(({ id, from, to, reason }) => {
    const row = map.rows[id];
    return row === undefined || live.get(from)?.isLeaving !== true ? [] : [{ row, to, reason }];
  });
}

/**
 * The owners that were gone within the cooldown, or were not ready in time. No plan moves shards to them, so that an owner that comes and goes causes
 * few moves; BGP dampens routes that flap in the same way (RFC 2439).
 */
function restingOwners({ map, state: { restingMs }, time }: Look): ReadonlySet<string> {
  for (const [instance, ms] of restingMs) if (time.monoMs >= ms + map.set.value.cooldownMs) restingMs.delete(instance);
  return new Set(restingMs.keys());
}

/** Notes which owners are overloaded. The hottest shard of each is throttled meanwhile. */
function noteLoads({ map, live, set, state: { hotMs }, time }: Look): void {
  const throttled = new Set<number>();
  // A report that begins with a shard of another owner is from before a move.
  const hottestOf = (instance: string, { load }: OwnerRecord) => {
    const id = load.hottest[0]?.[0] ?? -1;
    return map.rows[id]?.owner === instance ? id : -1;
  };
  for (const instance of hotMs.keys()) if (!live.has(instance)) hotMs.delete(instance);
  for (const [instance, record] of live)
    if (isOverloaded(record, map.set.value, hotMs.has(instance))) {
      hotMs.set(instance, hotMs.get(instance) ?? time.monoMs);
      throttled.add(hottestOf(instance, record));
    } else hotMs.delete(instance);
  for (const row of map.rows) {
    const isThrottled = throttled.has(row.id) && row.owner !== "";
    if (isThrottled !== row.isThrottled)
      set.edit({ ...row, isThrottled, reason: isThrottled ? "its owner is overloaded" : "its owner is no longer overloaded" });
  }
}
