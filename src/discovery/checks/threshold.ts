/** Decides from the outcomes of one check when it turns: when so many in a row say the same, and it is not what the check has turned to. */
import { type CheckFailure, type CheckState, type CheckTimes, FAILURE, UNKNOWN_STATE } from "../../catalog/entry/checks.ts";
import { HEALTH } from "../../catalog/record/record.ts";

export class CheckThreshold {
  readonly #times: Pick<CheckTimes, "failing" | "passing">;
  #state: CheckState;
  /** The newest outcome that says something else than the state, and how many in a row have said it. */
  #next: CheckOutcome | undefined;
  #inARow = 0;
  #isNotRun: boolean;

  /** `state`: what was known before, or `UNKNOWN_STATE`. */
  constructor(times: Pick<CheckTimes, "failing" | "passing">, state: CheckState = UNKNOWN_STATE) {
    this.#times = times;
    this.#isNotRun = state.failure === FAILURE.NOT_RUN;
    this.#state = this.#isNotRun ? { ...UNKNOWN_STATE, health: state.lastHealth ?? HEALTH.UNSET } : state;
  }

  /** The current state. Its failure is the first one since the check began to fail. While the check is not run, it has no health. */
  get state(): CheckState {
    return this.#isNotRun ? { ...UNKNOWN_STATE, failure: FAILURE.NOT_RUN, lastHealth: this.#state.health } : this.#state;
  }

  get isNotRun(): boolean {
    return this.#isNotRun;
  }

  get isKnown(): boolean {
    return this.#state.health !== HEALTH.UNSET;
  }

  /** The last outcome contradicts what the check had turned to. */
  get isChanging(): boolean {
    return this.isKnown && this.#next !== undefined;
  }

  /** What the check is to turn to. Undefined while it stays as it is. */
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

  /** The check turns to what is due. */
  turn(): void {
    this.#state = this.due ?? this.#state;
    this.#next = undefined;
    this.#inARow = 0;
  }
}

// What one probe of a check found, and what a check has turned to: both are a health, and why it is not a good one.

/** As `CheckState`, with a health that is known. */
export interface CheckOutcome extends CheckState {
  readonly health: typeof HEALTH.HEALTHY | typeof HEALTH.DEGRADED | typeof HEALTH.CRITICAL;
}

export const PASSED: CheckOutcome = { health: HEALTH.HEALTHY, failure: FAILURE.NONE, httpStatus: 0, lastHealth: HEALTH.UNSET };
/** Only an alias has it: the other entry is degraded. */
export const DEGRADED: CheckOutcome = { health: HEALTH.DEGRADED, failure: FAILURE.NONE, httpStatus: 0, lastHealth: HEALTH.UNSET };

/** `httpStatus` goes with `FAILURE.STATUS`. */
export function failed(failure: Exclude<CheckFailure, typeof FAILURE.NONE | typeof FAILURE.NOT_RUN>, httpStatus = 0): CheckOutcome {
  return { health: HEALTH.CRITICAL, failure, httpStatus, lastHealth: HEALTH.UNSET };
}
