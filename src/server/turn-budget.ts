/**
 * Limits the time that one event loop turn spends on streams whose clients read all data immediately. Without this limit, a snapshot of a large
 * catalog would block the event loop for as long as the socket accepts pages, and so would hundreds of streams that open at the same time.
 */

export interface TurnPorts {
  /** Monotonic ms. */
  readonly nowMs: () => number;
  /** Runs its argument once when the current turn has ended (setImmediate). */
  readonly onEnd: (act: () => void) => void;
}

/** Time limit per turn, in ms. This time is enough for a few dozen pages of 16 KiB. */
const MAX_MS = 2;

export class TurnBudget {
  readonly #ports: TurnPorts;
  /** Undefined until a callback has run in this turn. */
  #endMonoMs: number | undefined;
  #waiting: (() => void)[] = [];

  constructor(ports: TurnPorts) {
    this.#ports = ports;
  }

  /** Returns whether this turn has time left and no callback is waiting. If not, the callback must be passed to `wait`. */
  mayAct(): boolean {
    if (this.#endMonoMs === undefined) {
      this.#begin();
      return true;
    }
    return this.#waiting.length === 0 && this.#ports.nowMs() < this.#endMonoMs;
  }

  /** Runs the callback in one of the next turns, in order. The caller limits the number of waiting callbacks. */
  wait(act: () => void): void {
    this.#waiting.push(act);
  }

  #begin(): number {
    const endMonoMs = this.#ports.nowMs() + MAX_MS;
    this.#endMonoMs = endMonoMs;
    this.#ports.onEnd(() => this.#endTurn());
    return endMonoMs;
  }

  /** Callbacks that are added while other callbacks run are queued behind the callbacks that are already waiting. */
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
