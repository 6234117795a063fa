/**
 * One look of the controller at a set: the rows that must change, and the conditions that make the change safe.
 *
 * A row changes its owner or its fence only on the condition of a record of the earlier owner that does not list the shard. The node of an owner lists
 * a shard only on the condition of the row. So one of both fails, however late the watches are.
 */
import { NEVER, type Time } from "../../lib/machine.ts";
import type { CopiedItem } from "../leadership/copy.ts";
import { freed, MAX_CHANGED_ROWS } from "./change.ts";
import type { ShardMap, ShardRow } from "./maps.ts";
import { place } from "./plan.ts";
import { type LiveOwners, planInput } from "./rebalancing.ts";
import type { OwnerRecord } from "./records.ts";

export interface SetLookOptions {
  readonly map: ShardMap;
  readonly owners: ReadonlyMap<string, CopiedItem<OwnerRecord>>;
  /** The owners whose sessions have not ended. */
  readonly live: LiveOwners;
  readonly leaseMs: number;
  readonly storeEpoch: number;
  /** The highest revision of the store that this node has seen. */
  readonly revision: number;
  /** Owners of rows without a record: the monotonic time (ms) at which this node noticed it. */
  readonly noticedMs: Map<string, number>;
  /** The monotonic time (ms) since which there are owners, while no shard has one. */
  readonly attachedMs: number | undefined;
  readonly time: Time;
}

export class SetLook {
  /** The changed rows, by id. At most `MAX_CHANGED_ROWS`. */
  readonly rows = new Map<number, ShardRow>();
  /** The change is made only if the records of these owners have the versions in the copy, or still do not exist. */
  readonly free = new Set<string>();
  readonly #options: SetLookOptions;
  /** Monotonic time (ms) of the next look if nothing changes. */
  #dueMs = NEVER;

  constructor(options: SetLookOptions) {
    this.#options = options;
  }

  get dueMs(): number {
    return this.#dueMs;
  }

  isDueAt(monoMs: number): void {
    this.#dueMs = Math.min(this.#dueMs, monoMs);
  }

  /** Number of rows that can still change. */
  get room(): number {
    return MAX_CHANGED_ROWS - this.rows.size;
  }

  /** Changes a row that has not been changed. */
  edit(row: ShardRow): void {
    if (this.room > 0 && !this.rows.has(row.id)) this.rows.set(row.id, row);
  }

  /** Makes all changes that need no plan: hand-overs, and owners for shards without one. */
  decide(): void {
    const { map, owners } = this.#options;
    const listed = new Set<number>();
    for (const { value } of owners.values()) for (const id of value?.held ?? []) listed.add(id);
    const homeless: ShardRow[] = [];
    for (const row of map.rows) {
      if (homeless.length >= this.room) break;
      const isFree = row.owner === "" && row.mode !== "disabled" && !listed.has(row.id);
      const edit = row.owner === "" ? (isFree ? "place" : undefined) : this.#owned(row);
      if (edit === "place") homeless.push(row);
      else if (edit !== undefined) this.edit(edit);
    }
    if (homeless.length > 0) this.#place(homeless);
  }

  /** The row of a shard with an owner after a change. `place` if the shard needs another owner. Undefined if it stays. */
  #owned(row: ShardRow): ShardRow | "place" | undefined {
    const { owners, live, noticedMs, leaseMs, time } = this.#options;
    const item = owners.get(row.owner);
    if (item === undefined) {
      // The owner has dropped its last shard, and has detached.
      const isFollowed = row.isDraining && row.mode !== "disabled" && live.get(row.next)?.isLeaving === false;
      if (isFollowed) return this.#assigned(row, row.next, row.reason);
      const sinceMs = noticedMs.get(row.owner) ?? time.monoMs;
      noticedMs.set(row.owner, sinceMs);
      // The owner can have attached again, and its record can be on its way.
      const dueMs = sinceMs + leaseMs / 12;
      if (time.monoMs >= dueMs) return this.#freed(row);
      this.isDueAt(dueMs);
      return undefined;
    }
    noticedMs.delete(row.owner);
    // A record that cannot be read counts as one that lists the shard.
    if (item.value === undefined) return undefined;
    return item.value.held.has(row.id) ? this.#handedOver(row) : this.#assignedAgain(row, item.value);
  }

  /** The next phase of a hand-over while the owner holds the shard. */
  #handedOver(row: ShardRow): ShardRow | undefined {
    const { map, live, time } = this.#options;
    // The node of the owner sees to it that the draining ends in time.
    if (row.isDraining) return undefined;
    if (row.mode === "disabled") return { ...row, next: "", isDraining: true, reason: row.reason || DISABLED };
    if (row.next === "") return undefined;
    const next = live.get(row.next);
    if (next === undefined || next.isLeaving) return { ...row, next: "", reason: `${row.next} ended before the hand-over` };
    if (next.prepared.has(row.id)) return { ...row, isDraining: true };
    const dueMs = row.sinceMs + map.set.value.prepareMs;
    if (time.monoMs >= dueMs) return { ...row, next: "", reason: `${row.next} was not ready in time` };
    this.isDueAt(dueMs);
    return undefined;
  }

  /** The row of a shard that its owner does not hold: the owner has dropped it, or must get it again with a new fence, or has just got it. */
  #assignedAgain(row: ShardRow, { session, created, isLeaving }: OwnerRecord): ShardRow | "place" | undefined {
    const { live, storeEpoch } = this.#options;
    const isStale = row.session !== session || row.fence.number <= created || row.fence.storeEpoch !== storeEpoch;
    if (!row.isDraining && !isStale && row.mode !== "disabled") return undefined;
    const next = row.isDraining && live.get(row.next)?.isLeaving === false ? row.next : "";
    if (row.mode === "disabled" || next !== "") return row.mode === "disabled" ? this.#freed(row) : this.#assigned(row, next, row.reason);
    if (row.isDraining || isLeaving || !live.has(row.owner)) return this.#freed(row);
    return this.#assigned(row, row.owner, `${row.owner} attached again`);
  }

  /** A shard that its owner does not hold loses it. */
  #freed(row: ShardRow): ShardRow | "place" {
    this.free.add(row.owner);
    return row.mode === "disabled" ? freed(row, row.reason || DISABLED) : "place";
  }

  #assigned(row: ShardRow, owner: string, reason: string): ShardRow {
    const { live, storeEpoch, revision, time } = this.#options;
    const { nodeId = "", session = "" } = live.get(owner) ?? {};
    if (row.owner !== "") this.free.add(row.owner);
    // As the number of a leader's fence, it is above the version of the owner's record.
    const fence = { failoverVersion: 0, storeEpoch, number: 1 + Math.max(revision, row.fence.number) };
    const movedWallMs = owner === row.owner ? row.movedWallMs : time.wallMs;
    return { ...freed(row, reason), owner, nodeId, session, term: row.term + 1, fence, movedWallMs };
  }

  #place(homeless: readonly ShardRow[]): void {
    const { map, live, leaseMs, attachedMs = Number.NEGATIVE_INFINITY, time } = this.#options;
    // The first owners are collected for a lease, so that the first one does not get all shards.
    if (time.monoMs < attachedMs + leaseMs) {
      this.isDueAt(attachedMs + leaseMs);
      return;
    }
    const input = planInput(map, live, { homeless: new Set(homeless.map(({ id }) => id)) }, time);
    const placed = new Map(place(input, homeless.length).map((placement) => [placement.id, placement]));
    for (const row of homeless) {
      const placement = placed.get(row.id);
      const reason = row.owner === "" ? "it had no owner" : row.isDraining ? "its owner has drained it" : "its owner ended";
      if (placement !== undefined) this.edit(this.#assigned(row, placement.to, reason));
      else if (row.owner !== "") this.edit(freed(row, "no owner accepts the shard"));
    }
  }
}

const DISABLED = "the shard is disabled";
