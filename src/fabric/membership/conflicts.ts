/** Newcomers that are not believed yet: somebody listed has their address, or an older life of their own id is still listed. */
import { NEVER } from "../../lib/machine.ts";
import type { MemberUpdate } from "../wire/messages.ts";
import type { MembershipOptions } from "./options.ts";

/** Whether what waits is another start of the listed node, at another address. */
export function isStartElsewhere({ reason, update }: WaitingUpdate, listed: MemberUpdate): boolean {
  return reason !== "address" && update.boot !== undefined && update.address !== listed.address;
}

export interface WaitingUpdate {
  readonly update: MemberUpdate;
  sinceMonoMs: number;
  /**
   * `address`: another id is listed there. `life`: the same id is listed elsewhere, in an older generation. `start`: as `life`, in the
   * start that this one follows.
   */
  readonly reason: "address" | "life" | "start";
  nextCheckMonoMs: number;
  /** Who told of it last. */
  readonly tellerId: string;
}

type ConflictsOptions = Pick<MembershipOptions, "maxConflicts" | "conflictMs" | "intervalMs">;

export class IdConflicts {
  readonly #options: ConflictsOptions;
  readonly #here: string;
  readonly #waiting = new Map<string, WaitingUpdate>();

  /** `here`: this node's cluster. */
  constructor(options: ConflictsOptions, here: string) {
    this.#options = options;
    this.#here = here;
  }

  get size(): number {
    return this.#waiting.size;
  }

  find(nodeId: string): WaitingUpdate | undefined {
    return this.#waiting.get(nodeId);
  }

  /** "full" drops it; "known" keeps the time since when it waits. */
  add(update: MemberUpdate, reason: WaitingUpdate["reason"], nowMonoMs: number, tellerId: string): "new" | "known" | "full" {
    const known = this.#waiting.get(update.nodeId);
    if (known === undefined && !this.#hasRoomFor(update.clusterId)) return "full";
    const isNewer =
      known === undefined ||
      update.generation > known.update.generation ||
      (update.generation === known.update.generation && update.incarnation >= known.update.incarnation);
    if (!isNewer) return "known";
    const sinceMonoMs = known?.sinceMonoMs ?? nowMonoMs;
    const nextCheckMonoMs = known?.nextCheckMonoMs ?? nowMonoMs;
    this.#waiting.set(update.nodeId, { update, sinceMonoMs, reason, nextCheckMonoMs, tellerId });
    return known === undefined ? "new" : "known";
  }

  /** As in the table of members: of other clusters one has a quarter of the room, and all of them half. */
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

  /** A word as new as this settled what the member is. */
  dropUpTo({ nodeId, generation, incarnation }: MemberUpdate): void {
    const known = this.#waiting.get(nodeId)?.update;
    if (known === undefined || known.generation > generation) return;
    if (known.generation < generation || known.incarnation <= incarnation) this.#waiting.delete(nodeId);
  }

  /** Takes out everybody who waited for this id or this address to be free. */
  release(nodeId: string, address: string): WaitingUpdate[] {
    if (this.#waiting.size === 0) return [];
    const released: WaitingUpdate[] = [];
    for (const waiting of this.#waiting.values()) {
      const { update } = waiting;
      if (update.nodeId !== nodeId && update.address !== address) continue;
      this.#waiting.delete(update.nodeId);
      released.push(waiting);
    }
    return released;
  }

  /** Those to be checked now, each at most once an interval. Who waited too long is forgotten. */
  due(nowMonoMs: number): WaitingUpdate[] {
    const due: WaitingUpdate[] = [];
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

  /** Nobody could be heard for so long. */
  postpone(byMs: number): void {
    for (const waiting of this.#waiting.values()) waiting.sinceMonoMs += byMs;
  }

  nextDeadlineMs(): number {
    let next = NEVER;
    for (const { nextCheckMonoMs } of this.#waiting.values()) next = Math.min(next, nextCheckMonoMs);
    return next;
  }
}
