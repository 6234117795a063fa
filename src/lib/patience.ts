/** The clock of deadlines that judge others: a standstill of our own event loop hardly counts (semantics.md, Deadlines and standstills). */

/** What a standstill counts at most, however long it was. A loop that is looked at every `LOOK_MS` and late by more stood still. */
const STANDSTILL_MS = 250;
/** How often somebody must look at the clock: time in which nobody looked is taken for a standstill. */
export const LOOK_MS = 100;

/** Patient ms, of two readings: a deadline is set by `nowMs`, and it is due when `dueMs` has come to it. */
export interface Patience {
  /** The patient time now, from which whoever is heard has its whole time. */
  nowMs(monoMs: number): number;
  /** Up to when deadlines are due: just after a standstill not yet up to now. */
  dueMs(monoMs: number): number;
  /** At which monotonic time a deadline is due, as of the last look; a standstill until then makes it later. */
  dueMonoMs(deadlineMs: number): number;
}

/** For who never stands still. */
export const ALL_TIME_COUNTS: Patience = { nowMs: (monoMs) => monoMs, dueMs: (monoMs) => monoMs, dueMonoMs: (deadlineMs) => deadlineMs };

/**
 * While the loop stands still, what others sent in time waits in the sockets, and when it goes on, timers run first. So a standstill counts
 * at most 250 ms, and by so much deadlines are due later until 250 ms have passed and what waited has been read, or until the next
 * standstill. A loop that stands still again and again therefore ends things later, but it does end them. With one reading for
 * both, what is renewed just after a standstill would end 250 ms early.
 */
export class PatientClock implements Patience {
  #seenMonoMs: number | undefined;
  #wokeMonoMs = 0;
  #graceMs = 0;
  /** What does not count of all time until the last look. */
  #skippedMs = 0;

  nowMs(monoMs: number): number {
    const gapMs = monoMs - (this.#seenMonoMs ?? monoMs);
    if (gapMs > STANDSTILL_MS) {
      this.#skippedMs += gapMs - STANDSTILL_MS;
      this.#graceMs = STANDSTILL_MS;
      this.#wokeMonoMs = monoMs;
    } else if (monoMs - this.#wokeMonoMs >= STANDSTILL_MS) {
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

  /** Whether it was looked at lately after a standstill. */
  get isJustAwake(): boolean {
    return this.#graceMs > 0;
  }
}
