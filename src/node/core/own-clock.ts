/** A node whose clock is off takes no writes and is not ready (semantics.md, Several origins for one key). */
import { eventOutput } from "../../fabric/io-types.ts";
import type { ClockState } from "../../fabric/membership/clock-watch.ts";
import type { Membership } from "../../fabric/membership/membership.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { isStamp, stampOf } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";

/** Time between two comparisons of the clocks; the second while a start waits for one. */
const LOOK_MS = 1000;
const HURRIED_LOOK_MS = 20;
/** How long a start waits for other nodes to say what their clocks are. */
const COMPARE_MS = 3000;
const RETRY_MS = 1000;

export type Clocks = Pick<Membership, "clock" | "askClocks" | "hasJoined">;

/** Why: writes of a node whose clock is off would win over later writes of other nodes, or be hidden by earlier ones. */
export class OwnClock {
  readonly #hasSeeds: boolean;
  #fault: string;
  #lookedMonoMs = Number.NEGATIVE_INFINITY;
  /** The wait of a start, until it is known whether this clock is right or the time for the wait is over. Undefined when there is no wait any more. */
  #comparing: { readonly untilMonoMs: number | undefined } | undefined = { untilMonoMs: undefined };
  #isOff = false;

  /** `hasSeeds`: this node is to meet others, who will see its stamps. */
  constructor(hasSeeds: boolean) {
    this.#hasSeeds = hasSeeds;
    this.#fault = hasSeeds ? COMPARING : "";
  }

  /** Why this node takes no writes: its clock is off, or nobody has said that it is right. Else empty. */
  get fault(): string {
    return this.#fault;
  }

  /** Whether a start waits for the clocks of other nodes. */
  get isComparing(): boolean {
    return this.#fault === COMPARING;
  }

  /** To be called after each input. `isReady`: the node was ready once, so it waits no more. Returns the event to tell of, if there is one. */
  look(membership: Clocks, isReady: boolean, time: Time): ReturnType<typeof eventOutput> | undefined {
    if (isReady) this.#comparing = undefined;
    if (time.monoMs < this.#lookedMonoMs + (this.#comparing === undefined ? LOOK_MS : HURRIED_LOOK_MS)) return undefined;
    this.#lookedMonoMs = time.monoMs;
    const clock = membership.clock(time);
    const off = isStamp(stampOf(time.wallMs)) ? clockFaultOf(clock) : BEYOND_STAMPS;
    this.#fault = off === "" && this.#mustCompare(membership, clock, time) ? COMPARING : off;
    if (this.#isOff === (off !== "")) return undefined;
    this.#isOff = off !== "";
    const { aheadMs, offCount, knownCount } = clock;
    const detail = { ahead_ms: Math.round(aheadMs), off: offCount, known: knownCount };
    return eventOutput(this.#isOff ? "own_clock_off" : "own_clock_right", this.#isOff ? "error" : "info", detail, { isAudited: true });
  }

  /** Throws while this node is to take no writes: `not_ready` while nothing is known of its clock, `clock_skew` where it is off. */
  check(): void {
    if (this.#fault === "") return;
    throw new WaymarkError(this.isComparing ? "not_ready" : "clock_skew", this.#fault, { retryMs: RETRY_MS });
  }

  /** Whether a start still waits: other nodes that could say that its clock is wrong exist, or may exist, and too few of them have told their clocks. */
  #mustCompare(membership: Clocks, { isUnheard }: ClockState, { monoMs }: Time): boolean {
    if (this.#comparing === undefined) return false;
    const { untilMonoMs = monoMs + COMPARE_MS } = this.#comparing;
    this.#comparing = monoMs < untilMonoMs ? { untilMonoMs } : undefined;
    if (isUnheard) membership.askClocks();
    return this.#comparing !== undefined && (isUnheard || (this.#hasSeeds && !membership.hasJoined));
  }
}

const COMPARING = `this node takes no writes before it has heard the clocks of other nodes, for which it waits at most ${COMPARE_MS / 1000} s`;
const BEYOND_STAMPS = "this node's clock stands in the year 2100 or later: set it right; until then it takes no writes";

/** What is wrong with the clock, for people. Empty while it agrees with those of others. */
function clockFaultOf({ isOff, aheadMs, offCount, knownCount }: ClockState): string {
  if (!isOff) return "";
  const by = `${Math.round(Math.abs(aheadMs) / 1000)} s ${aheadMs > 0 ? "ahead of" : "behind"}`;
  return `this node's clock is ${by} those of ${offCount} of ${knownCount} other nodes: set it right; until then it takes no writes`;
}
