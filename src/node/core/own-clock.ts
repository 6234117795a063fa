/** What a clock that is off means for a node: it takes no writes, and is not ready (semantics.md, Several origins for one key). */
import { eventOutput } from "../../fabric/io-types.ts";
import type { ClockState } from "../../fabric/membership/clock-watch.ts";
import type { Membership } from "../../fabric/membership/membership.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { isStamp, stampOf } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";

/** Clocks are compared so often; while a start waits for it, as often as that. */
const LOOK_MS = 1000;
const HURRIED_LOOK_MS = 20;
/** A start waits so long for others to say what their clocks are. */
const COMPARE_MS = 3000;
const RETRY_MS = 1000;

export type Clocks = Pick<Membership, "clock" | "askClocks" | "hasJoined">;

/** Why: with a clock that is off, what is written here would win over what others write later, or be hidden by what they wrote before. */
export class OwnClock {
  readonly #hasSeeds: boolean;
  #fault: string;
  #lookedMonoMs = Number.NEGATIVE_INFINITY;
  /** Until it is known whether this clock is right, or may not be waited for any longer: the one wait is that of the start. */
  #comparing: { readonly untilMonoMs: number | undefined } | undefined = { untilMonoMs: undefined };
  #isOff = false;

  /** `hasSeeds`: others are to be met, and what this node stamps is theirs to see. */
  constructor(hasSeeds: boolean) {
    this.#hasSeeds = hasSeeds;
    this.#fault = hasSeeds ? COMPARING : "";
  }

  /** Why this node takes no writes, because its clock is off or nobody said that it is right; else empty. */
  get fault(): string {
    return this.#fault;
  }

  /** Whether a start waits for what others say their clocks are. */
  get isComparing(): boolean {
    return this.#fault === COMPARING;
  }

  /** To be called after each input; `isReady`: the node was ready once, and does not wait any more. Returns what is to be told of. */
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

  /** Whether a start still waits: there are, or may be, others who could say that its clock is wrong, and too few have said what theirs are. */
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

/** In words for people; empty while the clock is as others'. */
function clockFaultOf({ isOff, aheadMs, offCount, knownCount }: ClockState): string {
  if (!isOff) return "";
  const by = `${Math.round(Math.abs(aheadMs) / 1000)} s ${aheadMs > 0 ? "ahead of" : "behind"}`;
  return `this node's clock is ${by} those of ${offCount} of ${knownCount} other nodes: set it right; until then it takes no writes`;
}
