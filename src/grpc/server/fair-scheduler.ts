/**
 * Gives every connection a share of each turn of the event loop. A connection that sends thousands of calls in a burst (libuv reads up
 * to 2 MiB from a socket in one go) waits behind itself. Several such connections take turns, so that together they delay the others no
 * longer than one of them would. Time is counted in turns.
 */

/** The share of one connection; made by `FairScheduler.join`. */
export interface Share {
  /** Acts in this turn. */
  count: number;
  readonly waiting: (() => void)[];
}

export interface TurnBounds {
  /** Acts of one share in a turn. */
  readonly each: number;
  /** Acts of all shares in a turn together. The first act of each share never waits. */
  readonly all: number;
}

export class FairScheduler {
  readonly #bounds: TurnBounds;
  readonly #schedule: (endOfTurn: () => void) => void;
  #count = 0;
  /** Shares that acted in this turn or wait, the one that waited longest first. */
  #active: Share[] = [];
  #isScheduled = false;

  /** `schedule` runs what it is given once, when the current turn is over (setImmediate). */
  constructor(bounds: TurnBounds, schedule: (endOfTurn: () => void) => void) {
    this.#bounds = bounds;
    this.#schedule = schedule;
  }

  /** A new share; it need not be given back. */
  join(): Share {
    return { count: 0, waiting: [] };
  }

  /** Whether the share may act now; when not, give the act to `wait`. */
  // HOT: once a call; no closure for those that need not wait.
  mayAct(share: Share): boolean {
    if (share.waiting.length > 0) return false;
    if (share.count === 0) this.#activate(share);
    else if (share.count >= this.#bounds.each || this.#count >= this.#bounds.all) return false;
    share.count += 1;
    this.#count += 1;
    return true;
  }

  /** Runs the act in one of the next turns, in order. The caller bounds how many acts wait, by its open streams. */
  wait(share: Share, act: () => void): void {
    share.waiting.push(act);
  }

  #activate(share: Share): void {
    this.#active.push(share);
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
    const later: Share[] = [];
    const served: Share[] = [];
    for (const share of active) {
      share.count = 0;
      if (share.waiting.length === 0) continue;
      const room = Math.min(this.#bounds.each, this.#bounds.all - this.#count);
      const now = room > 0 ? share.waiting.splice(0, room) : [];
      this.#count += now.length;
      share.count = now.length;
      (now.length > 0 ? served : later).push(share);
      acts.push(...now);
    }
    for (const share of later) this.#activate(share);
    for (const share of served) this.#activate(share);
    for (const act of acts) act();
  }
}
