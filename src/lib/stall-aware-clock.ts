/**
 * The clock for deadlines of other nodes and clients: a pause of this process's own event loop hardly counts (semantics.md, Deadlines and
 * standstills).
 */

/** The time for which a pause counts at most. The event loop was paused if a reading of the clock is late by more than this. */
const STANDSTILL_MS = 250;
/** The shell must read the clock this often, because a longer time without a reading counts as a pause. */
export const STALL_CHECK_MS = 100;

/** Stall-aware milliseconds have two readings: `nowMs` sets a deadline, and the deadline is due when `dueMs` reaches it. */
export interface StallAwareClock {
  /** The stall-aware time now. A deadline that is renewed now gets its whole time from here. */
  nowMs(monoMs: number): number;
  /** Deadlines up to this value are due. Just after a pause it is behind `nowMs`. */
  dueMs(monoMs: number): number;
  /** The monotonic time at which a deadline is due, as of the last reading. A later pause makes it later. */
  dueMonoMs(deadlineMs: number): number;
}

/** A pause of the process that has ended. */
export interface ProcessPause {
  readonly endMonoMs: number;
  readonly lengthMs: number;
}

/**
 * While the event loop is paused, messages that others sent in time wait in the sockets. When it continues, timers run first. So a pause
 * counts for at most 250 ms, and deadlines are due 250 ms later until this time has passed and the messages have been read, or until the
 * next pause. A loop that pauses again and again therefore ends things later, but it does end them. With a single reading for both, a
 * deadline that is renewed just after a pause would end 250 ms early.
 */
export class StallTracker implements StallAwareClock {
  #seenMonoMs: number | undefined;
  #last: ProcessPause = { endMonoMs: Number.NEGATIVE_INFINITY, lengthMs: 0 };
  #graceMs = 0;
  /** The time until the last reading that does not count. */
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

  /** Whether a pause ended less than 250 ms ago. */
  get isJustResumed(): boolean {
    return this.#graceMs > 0;
  }
}
