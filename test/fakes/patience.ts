/** A clock for callers that never stand still, such as simulations. */
import type { Patience } from "../../src/lib/patience.ts";

export const ALL_TIME_COUNTS: Patience = { nowMs: (monoMs) => monoMs, dueMs: (monoMs) => monoMs, dueMonoMs: (deadlineMs) => deadlineMs };
