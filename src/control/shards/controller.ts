/**
 * The controller of shards: the node that leads `global-control` assigns the shards of all sets to their owners, and moves them from one owner to
 * another. The design is Apache Helix's (Gopalakrishna et al., SoCC 2012); a move has the phases of Shard Manager's graceful migration (Lee et al.,
 * SOSP 2021): the next owner prepares, the owner drains, and the next owner acts.
 *
 * A row changes its owner or its fence only on the condition of a record of the earlier owner that does not list the shard. The node of an owner lists
 * a shard only on the condition of the row. So one of both fails, however late the watches are.
 */
import { NEVER, type Time } from "../../lib/machine.ts";
import type { StoreCondition } from "../../store/control/store.ts";
import type { CopiedItem } from "../leadership/copy.ts";
import type { Leadership } from "../leadership/machine.ts";
import { LEADERS, SESSIONS } from "../leadership/records.ts";
import { GLOBAL_SCOPE } from "../leadership/scope.ts";
import { RETRY_MS } from "../leadership/session.ts";
import { changeOf, freed, MAX_CHANGED_ROWS } from "./change.ts";
import type { ShardOutput } from "./io-types.ts";
import type { ShardMap, ShardMaps, ShardRow } from "./maps.ts";
import { type PlanInput, place, planMoves } from "./plan.ts";
import { type OwnerRecord, ownerKey } from "./records.ts";

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
  /** Monotonic time (ms) before which no change is sent. `NEVER` while a request is pending. */
  retryMs: number;
  /** Whether the copies show the effect of the last request. */
  isShown: () => boolean;
  dueMs: number;
  balanceMs: number;
  /** Owners of rows that have no record, and owners whose session has ended: the monotonic time (ms) at which this node noticed it. */
  readonly noticedMs: Map<string, number>;
  /** The moves that are still to be made, by shard: the next owner. */
  planned: Map<number, { readonly to: string; readonly reason: string }>;
}

/** The rows of one change, and the conditions that make it safe. */
interface Decision {
  readonly rows: Map<number, ShardRow>;
  /** Instances whose record must have the version in the copy, or must not exist. */
  readonly free: Set<string>;
  dueMs: number;
}

type OwnerItems = ReadonlyMap<string, CopiedItem<OwnerRecord>>;

export class ShardController {
  readonly #options: ControllerOptions;
  readonly #states = new Map<string, SetState>();
  readonly #dirty = new Set<string>();
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
    const condition = machine.ownSession(time)?.condition;
    // A pending renewal changes the version of the session.
    if (condition === undefined || !maps.isRead) return;
    for (const namespace of this.#dirty) this.#decide(namespace, condition, time, out);
    this.#dirty.clear();
  }

  #decide(namespace: string, session: StoreCondition, time: Time, out: ShardOutput[]): void {
    const map = this.#options.maps.map(namespace);
    if (map === undefined) {
      this.#states.delete(namespace);
      return;
    }
    const state = this.#stateOf(namespace);
    state.dueMs = state.retryMs;
    if (state.retryMs === NEVER || (time.monoMs < state.retryMs && !state.isShown())) return;
    const owners = this.#options.maps.owners(namespace);
    const decision: Decision = { rows: new Map(), free: new Set(), dueMs: NEVER };
    const dead = this.#endedOwner(state, owners, decision, time);
    if (dead !== undefined) {
      this.#removeOwner(map, dead, session, out);
      return;
    }
    this.#editRows(map, owners, state, decision, time);
    state.dueMs = decision.dueMs;
    if (decision.rows.size > 0) this.#write(map, owners, decision, session, time, out);
  }

  #stateOf(namespace: string): SetState {
    const far = Number.NEGATIVE_INFINITY;
    const state = this.#states.get(namespace) ?? {
      retryMs: far,
      isShown: () => true,
      dueMs: far,
      balanceMs: far,
      noticedMs: new Map<string, number>(),
      planned: new Map<number, { readonly to: string; readonly reason: string }>(),
    };
    this.#states.set(namespace, state);
    return state;
  }

  /** An owner whose session ended a third of a lease ago, so that it can have attached to another node. */
  #endedOwner(state: SetState, owners: OwnerItems, decision: Decision, time: Time): string | undefined {
    const { leaseMs, isOwnStore } = this.#options;
    for (const [instance, item] of owners) {
      if (!this.#hasEnded(item)) continue;
      // In a store of its own, a node has no records of sessions. Owners of its last process can act for a lease.
      const dueMs = (isOwnStore ? item.sinceMs + leaseMs : noticed(state, `session of ${instance}`, time)) + leaseMs / 3;
      if (time.monoMs >= dueMs) return instance;
      decision.dueMs = Math.min(decision.dueMs, dueMs);
    }
    return undefined;
  }

  #hasEnded({ value, version }: CopiedItem<OwnerRecord>): boolean {
    return value !== undefined && this.#options.machine.hasEnded(value.session, version);
  }

  #removeOwner({ namespace }: ShardMap, instance: string, session: StoreCondition, out: ShardOutput[]): void {
    const state = this.#stateOf(namespace);
    const item = this.#options.maps.owners(namespace).get(instance);
    const key = ownerKey(namespace, instance);
    state.noticedMs.delete(`session of ${instance}`);
    const gone = { key: SESSIONS + (item?.value?.session ?? ""), version: 0 };
    const { machine, maps } = this.#options;
    const conditions = [session, this.#lease, { key, version: item?.version ?? 0 }, gone];
    state.retryMs = NEVER;
    state.isShown = () => maps.owners(namespace).get(instance)?.version !== item?.version;
    machine.requests.transact(conditions, [{ key, value: undefined }], out, this.#answerTo(state));
  }

  /** The condition that this node still leads. */
  get #lease(): StoreCondition {
    const key = LEADERS + GLOBAL_SCOPE;
    return { key, version: this.#options.machine.leaderItems.get(key)?.version ?? 0 };
  }

  #answerTo(state: SetState, onCommitted = () => {}) {
    return (result: { readonly isCommitted: boolean } | undefined, { monoMs }: Time) => {
      state.retryMs = monoMs + RETRY_MS;
      state.dueMs = monoMs;
      if (result?.isCommitted === true) onCommitted();
    };
  }

  #write(map: ShardMap, owners: OwnerItems, decision: Decision, session: StoreCondition, time: Time, out: ShardOutput[]): void {
    const { nodeId, newId, historyCount, machine, maps } = this.#options;
    const state = this.#stateOf(map.namespace);
    const rows = [...decision.rows.values()];
    const reasons = [...new Set(rows.map(({ reason }) => reason))].join("; ");
    const edits = { map, settings: map.set.value, rows, origin: { actor: nodeId, reason: reasons, ticket: "" }, historyCount };
    const change = changeOf(edits, time, newId());
    const free = [...decision.free].map((instance) => {
      return { key: ownerKey(map.namespace, instance), version: owners.get(instance)?.version ?? 0 };
    });
    const conditions = [session, this.#lease, ...change.conditions, ...free];
    const committed = this.#answerTo(state, () => {
      for (const after of change.rows) {
        const before = map.rows[after.id];
        if (before !== undefined) this.#moved.push({ kind: "moved", namespace: map.namespace, before, after });
      }
    });
    state.retryMs = NEVER;
    state.isShown = () => (maps.map(map.namespace)?.epoch ?? 0) >= change.epoch;
    machine.requests.transact(conditions, change.writes, out, committed);
  }

  #moved: Extract<ShardOutput, { readonly kind: "moved" }>[] = [];

  /** The moves of changes that were committed since the last call. */
  takeMoved(): readonly ShardOutput[] {
    const moved = this.#moved;
    if (moved.length > 0) this.#moved = [];
    return moved;
  }

  #editRows(map: ShardMap, owners: OwnerItems, state: SetState, decision: Decision, time: Time): void {
    const listed = new Set<number>();
    for (const { value } of owners.values()) for (const id of value?.held ?? []) listed.add(id);
    const homeless: ShardRow[] = [];
    for (const row of map.rows) {
      if (decision.rows.size + homeless.length >= MAX_CHANGED_ROWS) break;
      const edit = this.#editOf(row, { map, owners, state, decision, isListed: listed.has(row.id) }, time);
      if (edit === "place") homeless.push(row);
      else if (edit !== undefined) decision.rows.set(row.id, edit);
    }
    this.#place(map, owners, homeless, decision, time);
    this.#startMoves(map, owners, state, decision, time);
  }

  /** The row after a change that does not depend on other rows. `place` if the shard needs an owner. Undefined if the row stays. */
  #editOf(
    row: ShardRow,
    {
      map,
      owners,
      state,
      decision,
      isListed,
    }: {
      readonly map: ShardMap;
      readonly owners: OwnerItems;
      readonly state: SetState;
      readonly decision: Decision;
      readonly isListed: boolean;
    },
    time: Time,
  ): ShardRow | "place" | undefined {
    if (row.owner === "") return row.mode === "disabled" || isListed ? undefined : "place";
    const item = owners.get(row.owner);
    const isDisabled = row.mode === "disabled";
    if (item === undefined) {
      // The record of an owner that has just attached can be on its way.
      const dueMs = noticed(state, row.owner, time) + this.#options.leaseMs / 12;
      decision.dueMs = Math.min(decision.dueMs, time.monoMs < dueMs ? dueMs : NEVER);
      if (time.monoMs < dueMs) return undefined;
      decision.free.add(row.owner);
      return isDisabled ? freed(row, "the shard is disabled") : "place";
    }
    state.noticedMs.delete(row.owner);
    // A record that cannot be read counts as one that lists the shard.
    if (item.value === undefined) return undefined;
    if (item.value.held.has(row.id)) return this.#handOver(row, { map, owners, state, decision }, time);
    return this.#reassign(row, owners, item.value, decision, time);
  }

  /** The next phase of a hand-over while the owner holds the shard. */
  #handOver(
    row: ShardRow,
    {
      map,
      owners,
      decision,
    }: { readonly map: ShardMap; readonly owners: OwnerItems; readonly state: SetState; readonly decision: Decision },
    { monoMs }: Time,
  ): ShardRow | undefined {
    // The node of the owner ends the draining in time.
    if (row.isDraining) return undefined;
    if (row.mode === "disabled") return { ...row, next: "", isDraining: true, reason: "the shard is disabled" };
    if (row.next === "") return undefined;
    const next = owners.get(row.next);
    if (next?.value === undefined || next.value.isLeaving || this.#hasEnded(next))
      return { ...row, next: "", reason: `${row.next} ended before the hand-over` };
    if (next.value.prepared.has(row.id)) return { ...row, isDraining: true };
    const dueMs = row.sinceMs + map.set.value.prepareMs;
    if (monoMs >= dueMs) return { ...row, next: "", reason: `${row.next} was not ready in time` };
    decision.dueMs = Math.min(decision.dueMs, dueMs);
    return undefined;
  }

  /** The row of a shard that its owner does not hold: the owner has dropped it, or must get it again with a new fence, or has just got it. */
  #reassign(row: ShardRow, owners: OwnerItems, record: OwnerRecord, decision: Decision, time: Time): ShardRow | "place" | undefined {
    const { machine } = this.#options;
    const isOld = row.fence.number <= record.created || row.fence.storeEpoch !== machine.store?.epoch;
    const isStale = isOld || record.session !== row.session;
    if (!row.isDraining && !isStale && row.mode !== "disabled") return undefined;
    decision.free.add(row.owner);
    if (row.mode === "disabled") return freed(row, "the shard is disabled");
    const next = row.isDraining ? owners.get(row.next) : undefined;
    if (next?.value !== undefined && this.#takes(next)) return this.#assigned(row, row.next, next.value, row.reason, time);
    if (row.isDraining || record.isLeaving) return "place";
    return this.#assigned(row, row.owner, record, `${row.owner} attached again`, time);
  }

  /** Whether an owner accepts more shards. */
  #takes(item: CopiedItem<OwnerRecord>): boolean {
    return item.value !== undefined && !item.value.isLeaving && !this.#hasEnded(item);
  }

  #assigned(row: ShardRow, owner: string, record: OwnerRecord, reason: string, { wallMs }: Time): ShardRow {
    const { machine } = this.#options;
    const { nodeId, session } = record;
    return {
      ...row,
      owner,
      nodeId,
      session,
      term: row.term + 1,
      // As the number of a leader's fence, it is above the version of the owner's record.
      fence: { failoverVersion: 0, storeEpoch: machine.store?.epoch ?? 0, number: 1 + Math.max(machine.revision, row.fence.number) },
      next: "",
      isDraining: false,
      reason,
      movedWallMs: owner === row.owner ? row.movedWallMs : wallMs,
    };
  }

  #place(map: ShardMap, owners: OwnerItems, homeless: readonly ShardRow[], decision: Decision, time: Time): void {
    if (homeless.length === 0) return;
    const isHomeless = new Set(homeless.map(({ id }) => id));
    // The owners of a new set are collected for a lease, so that the first one does not get all shards.
    const firstMs = owners.values().reduce((first, item) => Math.min(first, this.#takes(item) ? item.sinceMs : NEVER), NEVER);
    const isNew = map.rows.every(({ term }) => term === 0);
    if (isNew && time.monoMs < firstMs + this.#options.leaseMs) {
      decision.dueMs = Math.min(decision.dueMs, firstMs + this.#options.leaseMs);
      return;
    }
    const placed = new Map(place(this.#planInput(map, owners, isHomeless, time), MAX_CHANGED_ROWS).map((each) => [each.id, each]));
    for (const row of homeless) {
      const placement = placed.get(row.id);
      const record = placement && owners.get(placement.to)?.value;
      if (placement !== undefined && record !== undefined)
        decision.rows.set(row.id, this.#assigned(row, placement.to, record, placement.reason, time));
      else if (row.owner !== "") decision.rows.set(row.id, freed(row, "no owner accepts the shard"));
    }
  }

  #planInput(map: ShardMap, owners: OwnerItems, homeless: ReadonlySet<number>, { wallMs }: Time): PlanInput {
    const { namespace } = map;
    const { strategy, cooldownMs } = map.set.value;
    const live = [...owners].flatMap(([instance, item]) =>
      item.value === undefined || this.#hasEnded(item) ? [] : [{ instance, ...item.value }],
    );
    const leaving = new Set(live.filter(({ isLeaving }) => isLeaving).map(({ instance }) => instance));
    const shards = map.rows
      .filter(({ mode, owner }) => mode !== "disabled" || owner !== "")
      .map((row) => {
        const { id, weight, hint, mode, movedWallMs, next, isDraining } = row;
        const isHomeless = homeless.has(id);
        const isRested = wallMs >= movedWallMs + cooldownMs || leaving.has(row.owner);
        const mayMove = isHomeless || (owners.has(row.owner) && mode === "active" && next === "" && !isDraining && isRested);
        return { id, weight, hint, owner: isHomeless ? "" : next || row.owner, mayMove };
      });
    return { namespace, strategy, owners: live, shards };
  }

  /** Starts the moves that balance the set. */
  #startMoves(map: ShardMap, owners: OwnerItems, state: SetState, decision: Decision, time: Time): void {
    if (map.set.value.approval !== "none") return;
    decision.dueMs = Math.min(decision.dueMs, state.balanceMs);
    if (decision.rows.size > 0) return;
    const movingCount = map.rows.filter(({ next, isDraining }) => next !== "" || isDraining).length;
    const isLeaving = owners.values().some(({ value }) => value?.isLeaving === true);
    if (movingCount === 0 && state.planned.size === 0 && (isLeaving || time.monoMs >= state.balanceMs)) {
      state.balanceMs = time.monoMs + BALANCE_MS;
      const moves = planMoves(this.#planInput(map, owners, new Set(), time), { isForced: false });
      state.planned = new Map(moves.map(({ id, to, reason }) => [id, { to, reason }]));
      decision.dueMs = Math.min(decision.dueMs, state.balanceMs);
    }
    for (const [id, { to, reason }] of state.planned) {
      if (movingCount + decision.rows.size >= Math.min(map.set.value.maxParallelMoves, MAX_CHANGED_ROWS)) return;
      state.planned.delete(id);
      const row = map.rows[id];
      const item = owners.get(to);
      if (row === undefined || item === undefined || !this.#takes(item)) continue;
      if (row.owner !== "" && row.owner !== to && row.next === "" && !row.isDraining) decision.rows.set(id, { ...row, next: to, reason });
    }
  }
}

function noticed({ noticedMs }: SetState, what: string, { monoMs }: Time): number {
  const sinceMs = noticedMs.get(what) ?? monoMs;
  noticedMs.set(what, sinceMs);
  return sinceMs;
}
