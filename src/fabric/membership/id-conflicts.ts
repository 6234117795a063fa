/**
 * Newcomers that are not accepted yet, because a listed member has their address, or an older generation or process instance of their own id is still listed.
 */
import { NEVER } from "../../lib/machine.ts";
import type { MemberUpdate } from "../wire/messages.ts";
import type { MembershipOptions } from "./options.ts";

/** Returns whether a pending update describes another process instance of the listed node at another address. */
export function isStartElsewhere({ reason, update }: PendingUpdate, listed: MemberUpdate): boolean {
  return reason !== "address" && update.boot !== undefined && update.address !== listed.address;
}

export interface PendingUpdate {
  readonly update: MemberUpdate;
  sinceMonoMs: number;
  /**
   * Why the update is pending. `address`: another id is listed at that address. `life`: an older generation of the id is listed at another address.
   * `start`: the previous process instance of this one is listed.
   */
  readonly reason: "address" | "life" | "start";
  nextCheckMonoMs: number;
  /** The node that sent the update most recently. */
  readonly senderId: string;
}

type ConflictsOptions = Pick<MembershipOptions, "maxConflicts" | "conflictMs" | "intervalMs">;

export class IdConflicts {
  readonly #options: ConflictsOptions;
  readonly #here: string;
  readonly #waiting = new Map<string, PendingUpdate>();

  /** `here`: this node's cluster. */
  constructor(options: ConflictsOptions, here: string) {
    this.#options = options;
    this.#here = here;
  }

  get size(): number {
    return this.#waiting.size;
  }

  find(nodeId: string): PendingUpdate | undefined {
    return this.#waiting.get(nodeId);
  }

  /**
   * Adds a pending update. Returns "full" when the update is dropped for lack of capacity. A "known" update keeps the time of its
   * first arrival.
   */
  add(update: MemberUpdate, reason: PendingUpdate["reason"], nowMonoMs: number, senderId: string): "new" | "known" | "full" {
    const known = this.#waiting.get(update.nodeId);
    if (known === undefined && !this.#hasRoomFor(update.clusterId)) return "full";
    const isNewer =
      known === undefined ||
      update.generation > known.update.generation ||
      (update.generation === known.update.generation && update.incarnation >= known.update.incarnation);
    if (!isNewer) return "known";
    const sinceMonoMs = known?.sinceMonoMs ?? nowMonoMs;
    const nextCheckMonoMs = known?.nextCheckMonoMs ?? nowMonoMs;
    this.#waiting.set(update.nodeId, { update, sinceMonoMs, reason, nextCheckMonoMs, senderId });
    return known === undefined ? "new" : "known";
  }

  /**
   * Returns whether there is capacity. As in the member table, each other cluster gets at most a quarter of the capacity, and all other clusters
   * together get half.
   */
  #hasRoomFor(clusterId: string): boolean {
    const max = this.#options.maxConflicts;
    if (clusterId === this.#here || this.#waiting.size >= max) return this.#waiting.size < max;
    let [same, others] = [0, 0];
    for (const { update } of this.#waiting.values()) {
      if (update.clusterId === clusterId) same += 1;
      if (update.clusterId !== this.#here) others += 1;
    }
    return same < max / 4 && others < max / 2;
  }

  drop(nodeId: string): void {
    this.#waiting.delete(nodeId);
  }

  /** Drops a pending update because an update with the same or a later incarnation has settled the member's state. */
  dropUpTo({ nodeId, generation, incarnation }: MemberUpdate): void {
    const known = this.#waiting.get(nodeId)?.update;
    if (known === undefined || known.generation > generation) return;
    if (known.generation < generation || known.incarnation <= incarnation) this.#waiting.delete(nodeId);
  }

  /** Removes and returns all updates that were waiting for this id or this address. */
  release(nodeId: string, address: string): PendingUpdate[] {
    if (this.#waiting.size === 0) return [];
    const released: PendingUpdate[] = [];
    for (const waiting of this.#waiting.values()) {
      const { update } = waiting;
      if (update.nodeId !== nodeId && update.address !== address) continue;
      this.#waiting.delete(update.nodeId);
      released.push(waiting);
    }
    return released;
  }

  /** Returns the updates to check now, each at most once per interval. Forgets updates that have waited too long. */
  due(nowMonoMs: number): PendingUpdate[] {
    const due: PendingUpdate[] = [];
    for (const waiting of this.#waiting.values()) {
      if (waiting.nextCheckMonoMs > nowMonoMs) continue;
      if (nowMonoMs - waiting.sinceMonoMs >= this.#options.conflictMs) {
        this.#waiting.delete(waiting.update.nodeId);
        continue;
      }
      waiting.nextCheckMonoMs = nowMonoMs + this.#options.intervalMs;
      due.push(waiting);
    }
    return due;
  }

  /** Extends the waiting times by the length of a pause of this process. */
  postpone(byMs: number): void {
    for (const waiting of this.#waiting.values()) waiting.sinceMonoMs += byMs;
  }

  nextDeadlineMs(): number {
    let next = NEVER;
    for (const { nextCheckMonoMs } of this.#waiting.values()) next = Math.min(next, nextCheckMonoMs);
    return next;
  }
}
