/** What a clock that is off means for a node: it takes no writes, and is not ready (semantics.md, Several origins for one key). */
import type { ClockState } from "./fabric/clock-watch.ts";
import type { FabricEvent } from "./fabric/seam.ts";
import { WaymarkError } from "./lib/errors.ts";
import { isStamp, stampOf } from "./lib/hlc.ts";
import type { Time } from "./lib/machine.ts";
import type { NodeCore } from "./node-core.ts";

/** Clocks are compared so often. */
const LOOK_MS = 1000;
const RETRY_MS = 1000;

/** Why: with a clock that is off, what is written here would win over what others write later, or be hidden by what they wrote before. */
export class OwnClock {
  readonly #core: Pick<NodeCore, "state" | "hooks">;
  readonly #tell: (event: FabricEvent) => void;
  #lookedMonoMs = Number.NEGATIVE_INFINITY;

  constructor(core: Pick<NodeCore, "state" | "hooks">, tell: (event: FabricEvent) => void) {
    this.#core = core;
    this.#tell = tell;
  }

  look(membership: { clock(time: Time): ClockState }, time: Time): void {
    if (time.monoMs < this.#lookedMonoMs + LOOK_MS) return;
    this.#lookedMonoMs = time.monoMs;
    const { state, hooks } = this.#core;
    const clock = membership.clock(time);
    const before = state.clockFault;
    state.clockFault = isStamp(stampOf(time.wallMs)) ? clockFaultOf(clock) : BEYOND_STAMPS;
    if ((before === "") === (state.clockFault === "")) return;
    const [name, severity] = state.clockFault !== "" ? (["own_clock_off", "error"] as const) : (["own_clock_right", "info"] as const);
    const { aheadMs, offCount, knownCount } = clock;
    this.#tell({ name, severity, isAudited: true, detail: { ahead_ms: Math.round(aheadMs), off: offCount, known: knownCount } });
    hooks.onFault();
  }
}

const BEYOND_STAMPS = "this node's clock stands in the year 2100 or later: set it right; until then it takes no writes";

/** In words for people; empty while the clock is as others'. */
function clockFaultOf({ isOff, aheadMs, offCount, knownCount }: ClockState): string {
  if (!isOff) return "";
  const by = `${Math.round(Math.abs(aheadMs) / 1000)} s ${aheadMs > 0 ? "ahead of" : "behind"}`;
  return `this node's clock is ${by} those of ${offCount} of ${knownCount} other nodes: set it right; until then it takes no writes`;
}

/** Throws `clock_skew` while this node is to take no writes. */
export function checkClock({ clockFault }: { readonly clockFault: string }): void {
  if (clockFault !== "") throw new WaymarkError("clock_skew", clockFault, { retryMs: RETRY_MS });
}
