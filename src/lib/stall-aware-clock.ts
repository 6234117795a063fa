/** The clock for deadlines of others: a standstill of this process's own event loop hardly counts (semantics.md, Deadlines and standstills). */

/** A standstill counts at most this long. The loop stood still when a look at the clock is late by more than this. */
const STANDSTILL_MS = 250;
/** The shell must look at the clock this often, because a longer time without a look counts as a standstill. */
export const STALL_CHECK_MS = 100;

/** Stall-aware milliseconds have two readings: `nowMs` sets a deadline, and the deadline is due when `dueMs` reaches it. */
export interface StallAwareClock {
  /** The stall-aware time now. A deadline that is renewed now gets its whole time from here. */
  nowMs(monoMs: number): number;
  /** Deadlines up to here are due. Just after a standstill it is behind `nowMs`. */
  dueMs(monoMs: number): number;
  /** The monotonic time at which a deadline is due, as of the last look. A standstill until then makes it later. */
  dueMonoMs(deadlineMs: number): number;
}

/** A pause of the process that has ended. */
export interface ProcessPause {
  readonly endMonoMs: number;
  readonly lengthMs: number;
}

/**
 * While the loop stands still, messages that others sent in time wait in the sockets. When it goes on, timers run first. So a standstill counts
 * at most 250 ms, and deadlines are due 250 ms later until that time has passed and the messages have been read, or until the next
 * standstill. A loop that stands still again and again therefore ends things later, but it does end them. With a single reading for
 * both, a deadline that is renewed just after a standstill would end 250 ms early.
 */
export class StallTracker implements StallAwareClock {
  #seenMonoMs: number | undefined;
  #last: ProcessPause = { endMonoMs: Number.NEGATIVE_INFINITY, lengthMs: 0 };
  #graceMs = 0;
  /** The time until the last look that does not count. */
  #skippedMs = 0;

  nowMs(monoMs: number): number {
    const gapMs = monoMs - (this.#seenMonoMs ?? monoMs);
    if (gapMs > STANDSTILL_MS) {
      this.#skippedMs += gapMs - STANDSTILL_MS;
      this.#graceMs = STANDSTILL_MS;
      this.#last = { endMonoMs: monoMs, lengthMs: gapMs };
    } else if (monoMs - this.#last.endMonoMs >= STANDSTILL_MS) {
      this.#graceMs = 0;
    }
    this.#seenMonoMs = Math.max(this.#seenMonoMs ?? monoMs, monoMs);
    return monoMs - this.#skippedMs;
  }

  dueMs(monoMs: number): number {
    return this.nowMs(monoMs) - this.#graceMs;
  }

  dueMonoMs(deadlineMs: number): number {
    return deadlineMs + this.#skippedMs + this.#graceMs;
  }

  /** The last pause. Before the first one, a pause of length 0 that ended infinitely long ago. */
  get lastPause(): ProcessPause {
    return this.#last;
  }

  /** Whether a standstill ended less than 250 ms ago. */
  get isJustResumed(): boolean {
    return this.#graceMs > 0;
  }
}
