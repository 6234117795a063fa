/**
 * Decides when the state of a check changes: when enough consecutive outcomes agree with each other and differ from the state.
 */
import { type CheckFailure, type CheckState, type CheckTimes, FAILURE, UNKNOWN_STATE } from "../../catalog/entry/checks.ts";
import { HEALTH } from "../../catalog/record/record.ts";

export class CheckThreshold {
  readonly #times: Pick<CheckTimes, "failing" | "passing">;
  #state: CheckState;
  /** The newest outcome that differs from the state, and the number of consecutive outcomes with the same health. */
  #next: CheckOutcome | undefined;
  #inARow = 0;
  #isNotRun: boolean;

  /** `state`: the last known state, or `UNKNOWN_STATE`. */
  constructor(times: Pick<CheckTimes, "failing" | "passing">, state: CheckState = UNKNOWN_STATE) {
    this.#times = times;
    this.#isNotRun = state.failure === FAILURE.NOT_RUN;
    this.#state = this.#isNotRun ? { ...UNKNOWN_STATE, health: state.lastHealth ?? HEALTH.UNSET } : state;
  }

  /**
   * The current state. Its failure is the first failure since the check began to fail. Its health is unknown while the check is considered not run.
   */
  get state(): CheckState {
    return this.#isNotRun ? { ...UNKNOWN_STATE, failure: FAILURE.NOT_RUN, lastHealth: this.#state.health } : this.#state;
  }

  get isNotRun(): boolean {
    return this.#isNotRun;
  }

  get isKnown(): boolean {
    return this.#state.health !== HEALTH.UNSET;
  }

  /** Whether the last outcome contradicts the state. */
  get isChanging(): boolean {
    return this.isKnown && this.#next !== undefined;
  }

  /** The next state. Undefined if no change is due. */
  get due(): CheckOutcome | undefined {
    if (this.#next === undefined) return undefined;
    const { failing, passing } = this.#times;
    return this.#inARow >= (this.#next.health === HEALTH.CRITICAL ? failing : passing) ? this.#next : undefined;
  }

  /** Marks the check as not run, until the next outcome. */
  notRun(): void {
    this.#isNotRun = true;
  }

  conclude(outcome: CheckOutcome): void {
    const wasNotRun = this.#isNotRun;
    this.#isNotRun = false;
    if (outcome.health === this.#state.health) {
      // The record stores the last health, but not its failure.
      if (wasNotRun) this.#state = outcome;
      this.#next = undefined;
      this.#inARow = 0;
      return;
    }
    this.#inARow = outcome.health === this.#next?.health ? this.#inARow + 1 : 1;
    this.#next = outcome;
  }

  /** Applies the due state change. */
  turn(): void {
    this.#state = this.due ?? this.#state;
    this.#next = undefined;
    this.#inARow = 0;
  }
}

// The outcome of one probe, and the state of a check. Both consist of a health and, if the health is not good, a reason.

/** A `CheckState` with a known health. */
export interface CheckOutcome extends CheckState {
  readonly health: typeof HEALTH.HEALTHY | typeof HEALTH.DEGRADED | typeof HEALTH.CRITICAL;
}

export const PASSED: CheckOutcome = { health: HEALTH.HEALTHY, failure: FAILURE.NONE, httpStatus: 0, lastHealth: HEALTH.UNSET };
/** Used only for an alias to a degraded entry. */
export const DEGRADED: CheckOutcome = { health: HEALTH.DEGRADED, failure: FAILURE.NONE, httpStatus: 0, lastHealth: HEALTH.UNSET };

/** Returns a failed outcome. `httpStatus` is set only with `FAILURE.STATUS`. */
export function failed(failure: Exclude<CheckFailure, typeof FAILURE.NONE | typeof FAILURE.NOT_RUN>, httpStatus = 0): CheckOutcome {
  return { health: HEALTH.CRITICAL, failure, httpStatus, lastHealth: HEALTH.UNSET };
}
