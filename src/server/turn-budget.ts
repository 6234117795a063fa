/**
 * A bound on the time of one turn of the event loop that goes to streams whose readers take what they are told at once. Without it a snapshot of
 * a large catalog holds the loop for as long as the socket takes pages, and hundreds of streams that open together do so too.
 */

export interface TurnPorts {
  /** Monotonic ms. */
  readonly nowMs: () => number;
  /** Runs what it is given once, when the current turn is over (setImmediate). */
  readonly onEnd: (act: () => void) => void;
}

/** Long enough for some tens of pages of 16 KiB. */
const MAX_MS = 2;

export class TurnBudget {
  readonly #ports: TurnPorts;
  /** Undefined while nobody has acted in this turn. */
  #endMonoMs: number | undefined;
  #waiting: (() => void)[] = [];

  constructor(ports: TurnPorts) {
    this.#ports = ports;
  }

  /** Whether there is time left in this turn, and nobody waits. If not, give the act to `wait`. */
  mayAct(): boolean {
    if (this.#endMonoMs === undefined) {
      this.#begin();
      return true;
    }
    return this.#waiting.length === 0 && this.#ports.nowMs() < this.#endMonoMs;
  }

  /** Runs the act in one of the next turns, in order. The caller bounds how many acts wait. */
  wait(act: () => void): void {
    this.#waiting.push(act);
  }

  #begin(): number {
    const endMonoMs = this.#ports.nowMs() + MAX_MS;
    this.#endMonoMs = endMonoMs;
    this.#ports.onEnd(() => this.#endTurn());
    return endMonoMs;
  }

  /** Acts that come while others run wait behind those that wait already. */
  #endTurn(): void {
    this.#endMonoMs = undefined;
    if (this.#waiting.length === 0) return;
    const endMonoMs = this.#begin();
    let count = 0;
    do this.#waiting[count++]?.();
    while (count < this.#waiting.length && this.#ports.nowMs() < endMonoMs);
    this.#waiting = this.#waiting.slice(count);
  }
}
