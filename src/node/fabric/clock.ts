/** What a clock that is off means for a node: it takes no writes, and is not ready (semantics.md, Several origins for one key). */

import type { FabricEvent } from "../../fabric/io-types.ts";
import type { ClockState } from "../../fabric/membership/clock-watch.ts";
import type { Membership } from "../../fabric/membership/membership.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { isStamp, stampOf } from "../../lib/hlc.ts";
import type { Time } from "../../lib/machine.ts";
import type { CoreHooks, NodeState } from "../rooms.io.ts";

/** Clocks are compared so often; while a start waits for it, as often as that. */
const LOOK_MS = 1000;
const HURRIED_LOOK_MS = 20;
/** A start waits so long for others to say what their clocks are. */
const COMPARE_MS = 3000;
const RETRY_MS = 1000;

interface Core {
  readonly state: NodeState;
  readonly hooks: Pick<CoreHooks, "onFault">;
}
type Clocks = Pick<Membership, "clock" | "askClocks" | "hasJoined">;

/** Why: with a clock that is off, what is written here would win over what others write later, or be hidden by what they wrote before. */
export class OwnClock {
  readonly #core: Core;
  readonly #hasSeeds: boolean;
  readonly #tell: (event: FabricEvent) => void;
  #lookedMonoMs = Number.NEGATIVE_INFINITY;
  /** Until it is known whether this clock is right, or may not be waited for any longer: the one wait is that of the start. */
  #comparing: { readonly untilMonoMs: number | undefined } | undefined = { untilMonoMs: undefined };
  #isOff = false;

  /** `hasSeeds`: others are to be met, and what this node stamps is theirs to see. */
  constructor(core: Core, hasSeeds: boolean, tell: (event: FabricEvent) => void) {
    this.#core = core;
    this.#hasSeeds = hasSeeds;
    this.#tell = tell;
    if (hasSeeds) core.state.clockFault = COMPARING;
  }

  /** Whether a start waits for what others say their clocks are. */
  get isComparing(): boolean {
    return this.#core.state.clockFault === COMPARING;
  }

  look(membership: Clocks, time: Time): void {
    if (this.#core.state.isReady) this.#comparing = undefined;
    if (time.monoMs < this.#lookedMonoMs + (this.#comparing === undefined ? LOOK_MS : HURRIED_LOOK_MS)) return;
    this.#lookedMonoMs = time.monoMs;
    const { state, hooks } = this.#core;
    const clock = membership.clock(time);
    const off = isStamp(stampOf(time.wallMs)) ? clockFaultOf(clock) : BEYOND_STAMPS;
    const before = state.clockFault;
    state.clockFault = off === "" && this.#mustCompare(membership, clock, time) ? COMPARING : off;
    if ((before === "") !== (state.clockFault === "")) hooks.onFault();
    if (this.#isOff === (off !== "")) return;
    this.#isOff = off !== "";
    const [name, severity] = this.#isOff ? (["own_clock_off", "error"] as const) : (["own_clock_right", "info"] as const);
    const { aheadMs, offCount, knownCount } = clock;
    this.#tell({ name, severity, isAudited: true, detail: { ahead_ms: Math.round(aheadMs), off: offCount, known: knownCount } });
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

const COMPARING = "this node has not heard the clocks of others yet: until then it takes no writes";
const BEYOND_STAMPS = "this node's clock stands in the year 2100 or later: set it right; until then it takes no writes";

/** In words for people; empty while the clock is as others'. */
function clockFaultOf({ isOff, aheadMs, offCount, knownCount }: ClockState): string {
  if (!isOff) return "";
  const by = `${Math.round(Math.abs(aheadMs) / 1000)} s ${aheadMs > 0 ? "ahead of" : "behind"}`;
  return `this node's clock is ${by} those of ${offCount} of ${knownCount} other nodes: set it right; until then it takes no writes`;
}

/** Throws while this node is to take no writes: `not_ready` while nothing is known of its clock, `clock_skew` where it is off. */
export function checkClock({ clockFault }: { readonly clockFault: string }): void {
  if (clockFault === "") return;
  throw new WaymarkError(clockFault === COMPARING ? "not_ready" : "clock_skew", clockFault, { retryMs: RETRY_MS });
}
