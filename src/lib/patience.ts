/** The clock of deadlines that judge others: a standstill of our own event loop hardly counts (semantics.md, Deadlines and standstills). */

/** What a standstill counts at most, however long it was. A loop that is looked at every `LOOK_MS` and late by more stood still. */
const STANDSTILL_MS = 250;
/** How often somebody must look at the clock: time in which nobody looked is taken for a standstill. */
export const LOOK_MS = 100;

/**
 * While the loop stands still, what others sent in time waits in the sockets, and when it goes on, timers run first. So a standstill counts
 * at most 250 ms, and those only after 250 ms more, when what waited has been read, or at the next standstill. A loop that stands
 * still again and again therefore ends things later, but it does end them.
 */
export class PatientClock {
  #seenMonoMs: number | undefined;
  #wokeMonoMs = 0;
  /** Of the last standstill, what is still to be counted. */
  #owedMs = 0;
  #skippedMs = 0;

  /** Looks at the clock. Returns how much of the time until `monoMs` does not count: a patient time is `monoMs` less that. O(1). */
  skippedMs(monoMs: number): number {
    const gapMs = monoMs - (this.#seenMonoMs ?? monoMs);
    if (gapMs > STANDSTILL_MS) {
      this.#skippedMs += gapMs - this.#owedMs;
      this.#owedMs = STANDSTILL_MS;
      this.#wokeMonoMs = monoMs;
    } else if (this.#owedMs > 0 && monoMs - this.#wokeMonoMs >= STANDSTILL_MS) {
      this.#skippedMs -= this.#owedMs;
      this.#owedMs = 0;
    }
    this.#seenMonoMs = Math.max(this.#seenMonoMs ?? monoMs, monoMs);
    return this.#skippedMs;
  }

  /** Whether it was looked at lately after a standstill. */
  get isJustAwake(): boolean {
    return this.#owedMs > 0;
  }
}
