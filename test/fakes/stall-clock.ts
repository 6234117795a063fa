/** A clock for callers that never stand still, such as simulations. */
import type { StallAwareClock } from "../../src/lib/stall-aware-clock.ts";

export const ALL_TIME_COUNTS: StallAwareClock = {
  nowMs: (monoMs) => monoMs,
  dueMs: (monoMs) => monoMs,
  dueMonoMs: (deadlineMs) => deadlineMs,
};
