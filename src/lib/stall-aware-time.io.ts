/**
 * The clocks of this process: the two clocks that all code uses, and the stall-aware clock of the event loop with its timers. The stall-aware clock
 * is for deadlines of other nodes and clients, never for limits on this process itself.
 */

import { setTimeout as wait } from "node:timers/promises";
import { MAX_TIMER_MS } from "./duration.ts";
import type { Time } from "./machine.ts";
import { type ProcessPause, STALL_CHECK_MS, type StallAwareClock, StallTracker } from "./stall-aware-clock.ts";

// There is one clock, because a process has one event loop.
const clock = new StallTracker();
let looking: NodeJS.Timeout | undefined;

export function now(): Time {
  return { monoMs: performance.now(), wallMs: Date.now() };
}

/** The stall-aware clock. The first call starts a timer that reads the clock. */
export function clockOfLoop(): StallAwareClock {
  looking ??= setInterval(() => clock.nowMs(performance.now()), STALL_CHECK_MS).unref();
  return clock;
}

/** The current time in stall-aware milliseconds, for setting deadlines that are compared with `stallAwareDueMs`. */
export function stallAwareNowMs(): number {
  return clockOfLoop().nowMs(performance.now());
}

/** Deadlines up to this value, in stall-aware milliseconds, are due. Just after a pause, the value is behind `stallAwareNowMs`. */
export function stallAwareDueMs(): number {
  return clockOfLoop().dueMs(performance.now());
}

/** Whether a pause of the event loop has just ended, so that messages from others may not have been read yet. */
export function isJustResumed(): boolean {
  stallAwareNowMs();
  return clock.isJustResumed;
}

/** The last pause of the event loop. */
export function lastPause(): ProcessPause {
  stallAwareNowMs();
  return clock.lastPause;
}

/**
 * Length of the last pause of the event loop in ms if it ended less than `agoMs` before this time, and otherwise 0. HOT: runs for each DNS query over
 * UDP.
 */
export function recentPauseMs(monoMs: number, agoMs: number): number {
  clockOfLoop().nowMs(monoMs);
  const { endMonoMs, lengthMs } = clock.lastPause;
  return monoMs - endMonoMs < agoMs ? lengthMs : 0;
}

export interface StallAwareTimeout {
  /** Restarts the whole delay, even when it is called in the callback. It has no effect after the callback has returned. */
  refresh(): void;
  clear(): void;
}

/** Like `setTimeout`, but using the stall-aware clock: a timeout that would expire during a pause gets its remaining time afterwards. */
export function stallAwareTimeout(callback: () => void, delayMs: number): StallAwareTimeout {
  let dueMs = stallAwareNowMs() + delayMs;
  let timer: NodeJS.Timeout;
  const look = () => {
    const lastMs = dueMs;
    const isDue = lastMs - stallAwareDueMs() < 1;
    if (isDue) callback();
    if (!isDue || dueMs !== lastMs) timer = setTimeout(look, Math.max(1, dueMs - stallAwareDueMs()));
  };
  timer = setTimeout(look, delayMs);
  return {
    refresh: () => {
      dueMs = stallAwareNowMs() + delayMs;
    },
    clear: () => clearTimeout(timer),
  };
}

// The clock that is shared by all threads of a process. `performance.now()` has a different zero point in each thread.

/** The offset from this thread's `performance.now()` to the shared clock, in ms. */
export function sharedOriginMs(): number {
  // The system may stop the thread between the two readings. The smallest of several differences is the right one.
  return Math.min(...Array.from({ length: 8 }, () => -performance.now() + Number(process.hrtime.bigint()) / 1e6));
}

// Timers that support any delay. Node's own timers support delays from 0 to 24 days.

/**
 * Runs `act` after `delayMs`, or as soon as possible if the delay is negative. With a delay longer than the maximum of Node's timers, `act` never
 * runs. The returned function cancels it.
 */
export function later(act: () => void, delayMs: number): () => void {
  if (delayMs > MAX_TIMER_MS) return () => {};
  const timer = setTimeout(act, Math.max(0, delayMs));
  return () => clearTimeout(timer);
}

/** Resolves after `waitMs` or when the signal is aborted. */
export async function pause(waitMs: number, signal?: AbortSignal): Promise<void> {
  try {
    await wait(waitMs, undefined, { ...(signal && { signal }) });
  } catch (error) {
    if (signal?.aborted !== true) throw error;
  }
}
