/**
 * The clock for deadlines of other nodes and clients. It largely ignores pauses of this process's own event loop (semantics.md, Deadlines and
 * standstills).
 */

/** Maximum part of a pause that is counted. If a reading of the clock is late by more than this, the event loop was paused. */
const STANDSTILL_MS = 250;
/** The shell must read the clock at this interval, because a longer time without a reading is treated as a pause. */
export const STALL_CHECK_MS = 100;

/** A clock of stall-aware milliseconds with two readings: deadlines are set relative to `nowMs`, and are due when `dueMs` reaches them. */
export interface StallAwareClock {
  /** The current stall-aware time. A deadline that is renewed now gets its full time, starting from this reading. */
  nowMs(monoMs: number): number;
  /** Deadlines up to this value are due. Just after a pause, this value is behind `nowMs`. */
  dueMs(monoMs: number): number;
  /** The monotonic time at which a deadline is due, according to the last reading. Another pause makes it later. */
  dueMonoMs(deadlineMs: number): number;
}

/** A pause of the process that has ended. */
export interface ProcessPause {
  readonly endMonoMs: number;
  readonly lengthMs: number;
}

/**
 * While the event loop is paused, messages that other nodes and clients sent in time wait in the sockets. When the loop continues, timers run first.
 * Therefore, at most 250 ms of a pause is counted. After the pause, deadlines are due 250 ms later, until this time has passed and the messages have
 * been read, or until the next pause. Therefore, deadlines are reached later if a loop pauses repeatedly, but they are reached. If a single reading
 * were used for both, a deadline that is renewed just after a pause would be reached 250 ms early.
 */
export class StallTracker implements StallAwareClock {
  #seenMonoMs: number | undefined;
  #last: ProcessPause = { endMonoMs: Number.NEGATIVE_INFINITY, lengthMs: 0 };
  #graceMs = 0;
  /** Total time that was not counted, as of the last reading. */
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

  /** The last pause. Before the first pause, this is a pause of length 0 that ended infinitely long ago. */
  get lastPause(): ProcessPause {
    return this.#last;
  }

  /** Whether a pause ended less than 250 ms ago. */
  get isJustResumed(): boolean {
    return this.#graceMs > 0;
  }
}
