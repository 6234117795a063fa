/** This node's own member update, and the incarnation number with which it refutes other nodes (SWIM §4.2). */
import type { OriginLocation } from "../../catalog/replica/origins.ts";
import type { MemberFacts, MemberUpdate, NodeRef, ProcessInstance } from "../wire/messages.ts";

/** Largest incarnation that is accepted from other nodes. Above it, two increments would no longer be exact. */
export const MAX_INCARNATION = 2 ** 52;
/** A generation is the wall-clock second in which it began, multiplied by this number, plus a random number below it. */
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
   * Derives the first incarnation from the wall clock's seconds, so that the first update after a restart overrides earlier ones. If the clock was
   * set back, other nodes refute this node, and it continues from their incarnation number.
   */
  begin(wallMs: number): void {
    if (this.#update.incarnation === 0) this.#update = { ...this.#update, incarnation: secondsOf(wallMs) };
  }

  /**
   * Lowers the incarnation if it was derived from a clock that was far ahead and was corrected later. Undefined otherwise. A member whose own clock
   * was as far ahead may have accepted the high number. That member treats the lower number as outdated until it is restarted.
   */
  recount(wallMs: number): MemberUpdate | undefined {
    const incarnation = secondsOf(wallMs);
    if (incarnation >= this.#update.incarnation) return undefined;
    this.#update = { ...this.#update, incarnation };
    return this.#update;
  }

  /** Returns an update with an incarnation above `received` and above all of this node's earlier incarnations. */
  refute(received: number): MemberUpdate {
    this.#update = { ...this.#update, incarnation: Math.max(received, this.#update.incarnation) + 1 };
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

/** Returns the first incarnation of a node. 0 means that it has none yet. */
function secondsOf(wallMs: number): number {
  return Math.max(1, Math.floor(wallMs / 1000));
}

/** Returns the reference by which this node identifies itself in calls, with its cluster and region. */
function refOf({ nodeId, generation, boot, clusterId, region }: MemberFacts): NodeRef & ProcessInstance & OriginLocation {
  return { nodeId, generation, ...(boot !== undefined && { boot }), clusterId, region };
}
