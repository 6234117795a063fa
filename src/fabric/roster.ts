/**
 * The members of this node's own cluster that are not known to have left. They are remembered over a restart. A member that is away may return
 * with a record that only a tombstone ends, even if none of its records was ever held here (semantics.md, Tombstones).
 */
import { NEVER, type Time } from "../lib/machine.ts";
import { isListed } from "./membership/members.ts";
import type { MemberUpdate } from "./wire/messages.ts";

export interface RosterParts {
  readonly nodeId: string;
  readonly clusterId: string;
  /** Most members that are remembered: the room of the table of members. */
  readonly maxMembers: number;
  /** A member that is away for this time is forgotten, as its origins are. */
  readonly originForgetMs: number;
}

export class Roster {
  readonly #parts: RosterParts;
  readonly #nodeIds = new Set<string>();
  /** Since when each unlisted member is away, in the order in which they went. Undefined until the next tick. */
  readonly #away = new Map<string, number | undefined>();
  #version = 0;

  /** `remembered`: the members before this node was restarted. They are away until they are met. */
  constructor(parts: RosterParts, remembered: readonly string[] = []) {
    this.#parts = parts;
    for (const nodeId of remembered) if (nodeId !== parts.nodeId) this.#setAway(nodeId);
  }

  /** Another number whenever the remembered members change. */
  get version(): number {
    return this.#version;
  }

  /** The ids to remember over a restart. */
  list(): readonly string[] {
    return [...this.#nodeIds];
  }

  /** Whether one of the members is away and may come back. */
  get isAnybodyAway(): boolean {
    return this.#away.size > 0;
  }

  /** The members that are down or unreachable, and since when (monotonic ms). The time is undefined until the next tick. */
  get away(): ReadonlyMap<string, number | undefined> {
    return this.#away;
  }

  /** The state of a member changed. */
  memberChanged({ nodeId, clusterId, status }: MemberUpdate): void {
    if (nodeId === this.#parts.nodeId) return;
    if (clusterId !== this.#parts.clusterId || status === "left") this.#remove(nodeId);
    else if (isListed(status)) this.#setThere(nodeId);
    else this.#setAway(nodeId);
  }

  /** This node stood still. Members that are away have that much longer to come back. */
  postpone(byMs: number): void {
    for (const [nodeId, sinceMonoMs] of this.#away) if (sinceMonoMs !== undefined) this.#away.set(nodeId, sinceMonoMs + byMs);
  }

  /** Forgets members that were away for too long. Returns when the next one is due (monotonic ms), or `NEVER`. */
  tick({ monoMs }: Time): number {
    let nextMonoMs = NEVER;
    for (const [nodeId, sinceMonoMs = monoMs] of this.#away) {
      const forgetMonoMs = sinceMonoMs + this.#parts.originForgetMs;
      if (monoMs >= forgetMonoMs) this.#remove(nodeId);
      else {
        this.#away.set(nodeId, sinceMonoMs);
        nextMonoMs = Math.min(nextMonoMs, forgetMonoMs);
      }
    }
    return nextMonoMs;
  }

  #setThere(nodeId: string): void {
    this.#add(nodeId);
    this.#away.delete(nodeId);
  }

  #setAway(nodeId: string): void {
    this.#add(nodeId);
    if (!this.#away.has(nodeId)) this.#away.set(nodeId, undefined);
  }

  /** Remembers a member. Without room it replaces the member that went first. */
  #add(nodeId: string): void {
    if (this.#nodeIds.has(nodeId)) return;
    if (this.#nodeIds.size >= this.#parts.maxMembers) {
      const [first] = this.#away.size > 0 ? this.#away.keys() : this.#nodeIds;
      if (first !== undefined) this.#remove(first);
    }
    this.#nodeIds.add(nodeId);
    this.#version += 1;
  }

  #remove(nodeId: string): void {
    this.#away.delete(nodeId);
    if (this.#nodeIds.delete(nodeId)) this.#version += 1;
  }
}
