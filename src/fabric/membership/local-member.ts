/** What this node says of itself, and the counter with which it contradicts others (SWIM §4.2). */
import type { OriginLocation } from "../../catalog/replica/origins.ts";
import type { MemberFacts, MemberUpdate, NodeRef, ProcessInstance } from "../wire/messages.ts";

/** Larger counters are refused from others: two steps more would no longer be exact. */
export const MAX_INCARNATION = 2 ** 52;
/** A generation is the wall clock's seconds when it began, times this, and chance below. */
export const GENERATIONS_PER_S = 2 ** 20;

export class LocalMember {
  #update: MemberUpdate;
  #ref: NodeRef & ProcessInstance & OriginLocation;

  constructor(facts: MemberFacts) {
    this.#update = { ...facts, status: "alive", incarnation: 0, accuser: "" };
    this.#ref = refOf(facts);
  }

  get update(): MemberUpdate {
    return this.#update;
  }

  get ref(): NodeRef & ProcessInstance & OriginLocation {
    return this.#ref;
  }

  get isLeft(): boolean {
    return this.#update.status === "left";
  }

  /**
   * Counts from the wall clock's seconds, so that a restarted node's first word beats what its last life said. With a clock
   * that went back, others contradict it and it counts from what they say.
   */
  begin(wallMs: number): void {
    if (this.#update.incarnation === 0) this.#update = { ...this.#update, incarnation: secondsOf(wallMs) };
  }

  /**
   * Counts anew, when it began by a clock that stood far ahead and has been set since; undefined when it did not. A member whose own clock stood as far
   * ahead may have taken such a number: it takes the lower one for old until it is started again.
   */
  recount(wallMs: number): MemberUpdate | undefined {
    const incarnation = secondsOf(wallMs);
    if (incarnation >= this.#update.incarnation) return undefined;
    this.#update = { ...this.#update, incarnation };
    return this.#update;
  }

  /** A newer word than `heard`, and than all own ones. */
  contradict(heard: number): MemberUpdate {
    this.#update = { ...this.#update, incarnation: Math.max(heard, this.#update.incarnation) + 1 };
    return this.#update;
  }

  change(facts: MemberFacts): MemberUpdate {
    const { status, incarnation } = this.#update;
    this.#update = { ...facts, status, incarnation: incarnation + 1, accuser: "" };
    this.#ref = refOf(facts);
    return this.#update;
  }

  leave(): MemberUpdate {
    this.#update = { ...this.#update, status: "left", incarnation: this.#update.incarnation + 1 };
    return this.#update;
  }
}

/** Where an incarnation begins; 0 is that of nobody. */
function secondsOf(wallMs: number): number {
  return Math.max(1, Math.floor(wallMs / 1000));
}

/** How this node names itself in calls, with the cluster and region where it is at home. */
function refOf({ nodeId, generation, boot, clusterId, region }: MemberFacts): NodeRef & ProcessInstance & OriginLocation {
  return { nodeId, generation, ...(boot !== undefined && { boot }), clusterId, region };
}
