/**
 * A share of each turn of the event loop for every connection: one that sends thousands of calls in a burst (libuv reads
 * up to 2 MiB from a socket in one go) waits behind itself, not in front of the others. Pure; time is the turns.
 */

/** One that takes turns; made by `FairTurns.join`. */
export interface Sharer {
  /** What it did in this turn. */
  count: number;
  readonly waiting: (() => void)[];
}

export class FairTurns {
  readonly #perTurn: number;
  readonly #schedule: (endOfTurn: () => void) => void;
  #active: Sharer[] = [];
  #isScheduled = false;

  /** `schedule` runs what it is given once, when the current turn is over (setImmediate). */
  constructor(perTurn: number, schedule: (endOfTurn: () => void) => void) {
    this.#perTurn = perTurn;
    this.#schedule = schedule;
  }

  /** A new sharer; it needs no leaving. */
  join(): Sharer {
    return { count: 0, waiting: [] };
  }

  /** Whether it may act now; when not, give what it would do to `wait`. */
  // HOT: once a call; no closure for those that need not wait.
  mayAct(sharer: Sharer): boolean {
    if (sharer.count === 0) this.#activate(sharer);
    if (sharer.count >= this.#perTurn || sharer.waiting.length > 0) return false;
    sharer.count += 1;
    return true;
  }

  /** Does it in one of the next turns, in order. The caller bounds how much waits (by its open streams). */
  wait(sharer: Sharer, act: () => void): void {
    sharer.waiting.push(act);
  }

  #activate(sharer: Sharer): void {
    this.#active.push(sharer);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#schedule(() => this.#endTurn());
  }

  #endTurn(): void {
    this.#isScheduled = false;
    const active = this.#active;
    this.#active = [];
    for (const sharer of active) {
      sharer.count = 0;
      if (sharer.waiting.length === 0) continue;
      const now = sharer.waiting.splice(0, this.#perTurn);
      this.#activate(sharer);
      sharer.count = now.length;
      for (const act of now) act();
    }
  }
}
