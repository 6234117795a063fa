/** What one probe of a check found, and what a check has turned to: both are a health, and why it is not a good one. */
import { type CheckState, FAILURE, type Failure } from "../../catalog/entry/checks.ts";
import { HEALTH } from "../../catalog/record/record.ts";

/** As `CheckState`, with a health that is known. */
export interface Outcome extends CheckState {
  readonly health: typeof HEALTH.HEALTHY | typeof HEALTH.DEGRADED | typeof HEALTH.CRITICAL;
}

export const PASSED: Outcome = { health: HEALTH.HEALTHY, failure: FAILURE.NONE, httpStatus: 0, lastHealth: HEALTH.UNSET };
/** Only an alias has it: the other entry is degraded. */
export const DEGRADED: Outcome = { health: HEALTH.DEGRADED, failure: FAILURE.NONE, httpStatus: 0, lastHealth: HEALTH.UNSET };

/** `httpStatus` goes with `FAILURE.STATUS`. */
export function failed(failure: Exclude<Failure, typeof FAILURE.NONE | typeof FAILURE.NOT_RUN>, httpStatus = 0): Outcome {
  return { health: HEALTH.CRITICAL, failure, httpStatus, lastHealth: HEALTH.UNSET };
}
