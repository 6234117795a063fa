/**
 * A share of each turn of the event loop for every connection: one that sends thousands of calls in a burst (libuv reads
 * up to 2 MiB from a socket in one go) waits behind itself, and several that do take turns, so that together they are no
 * longer a pause for the others than one. Pure; time is the turns.
 */

/** One that takes turns; made by `FairTurns.join`. */
export interface Sharer {
  /** What it did in this turn. */
  count: number;
  readonly waiting: (() => void)[];
}

export interface TurnBounds {
  /** What one may do in a turn. */
  readonly each: number;
  /** What all may do in a turn together, but that the first act of each is never kept waiting. */
  readonly all: number;
}

export class FairTurns {
  readonly #bounds: TurnBounds;
  readonly #schedule: (endOfTurn: () => void) => void;
  #count = 0;
  /** Those that acted in this turn, or wait; who waited longest first. */
  #active: Sharer[] = [];
  #isScheduled = false;

  /** `schedule` runs what it is given once, when the current turn is over (setImmediate). */
  constructor(bounds: TurnBounds, schedule: (endOfTurn: () => void) => void) {
    this.#bounds = bounds;
    this.#schedule = schedule;
  }

  /** A new sharer; it needs no leaving. */
  join(): Sharer {
    return { count: 0, waiting: [] };
  }

  /** Whether it may act now; when not, give what it would do to `wait`. */
  // HOT: once a call; no closure for those that need not wait.
  mayAct(sharer: Sharer): boolean {
    if (sharer.waiting.length > 0) return false;
    if (sharer.count === 0) this.#activate(sharer);
    else if (sharer.count >= this.#bounds.each || this.#count >= this.#bounds.all) return false;
    sharer.count += 1;
    this.#count += 1;
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
    this.#count = 0;
    const active = this.#active;
    this.#active = [];
    const acts: (() => void)[] = [];
    const later: Sharer[] = [];
    const served: Sharer[] = [];
    for (const sharer of active) {
      sharer.count = 0;
      if (sharer.waiting.length === 0) continue;
      const room = Math.min(this.#bounds.each, this.#bounds.all - this.#count);
      const now = room > 0 ? sharer.waiting.splice(0, room) : [];
      this.#count += now.length;
      sharer.count = now.length;
      (now.length > 0 ? served : later).push(sharer);
      acts.push(...now);
    }
    for (const sharer of later) this.#activate(sharer);
    for (const sharer of served) this.#activate(sharer);
    for (const act of acts) act();
  }
}
