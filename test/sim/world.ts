/** Virtual time: one clock of true time, and events in the order of their time, then of their making. */

/** Events in one instant: more, and a machine asks for ticks without end. */
const MAX_INSTANT_EVENTS = 200_000;

export class World {
  /** True time since the start; no node can read it. */
  nowMs = 0;
  /** Events done. */
  eventCount = 0;
  // A binary heap in three parallel arrays.
  readonly #times: number[] = [];
  readonly #orders: number[] = [];
  readonly #runs: (() => void)[] = [];
  #order = 0;
  #instantCount = 0;

  /** Runs it then; never before what was asked for earlier for the same instant. */
  at(atMs: number, run: () => void): void {
    let i = this.#times.length;
    // A grid of a µs, about: sums and differences of such times are exact, so that a deadline is never missed by a rounding.
    const time = Math.max(Math.ceil(atMs * 1024) / 1024, this.nowMs);
    const order = this.#order++;
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if ((this.#times[parent] ?? 0) <= time) break;
      this.#move(parent, i);
      i = parent;
    }
    this.#set(i, time, order, run);
  }

  after(delayMs: number, run: () => void): void {
    this.at(this.nowMs + delayMs, run);
  }

  /** Runs everything up to and at an instant, which it then is. */
  runUntil(untilMs: number): void {
    while (this.#times.length > 0 && (this.#times[0] ?? 0) <= untilMs) this.#step();
    this.nowMs = untilMs;
  }

  #step(): void {
    const run = this.#runs[0];
    const atMs = this.#times[0] ?? this.nowMs;
    this.#instantCount = atMs > this.nowMs ? 0 : this.#instantCount + 1;
    if (this.#instantCount > MAX_INSTANT_EVENTS) throw new Error("time stands still: somebody is always due");
    this.nowMs = atMs;
    this.#removeFirst();
    this.eventCount += 1;
    run?.();
  }

  #removeFirst(): void {
    const time = this.#times.pop() ?? 0;
    const order = this.#orders.pop() ?? 0;
    const run = this.#runs.pop();
    const size = this.#times.length;
    if (size === 0 || run === undefined) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= size) break;
      if (child + 1 < size && this.#isBefore(child + 1, this.#times[child] ?? 0, this.#orders[child] ?? 0)) child += 1;
      if (!this.#isBefore(child, time, order)) break;
      this.#move(child, i);
      i = child;
    }
    this.#set(i, time, order, run);
  }

  #isBefore(i: number, time: number, order: number): boolean {
    const other = this.#times[i] ?? 0;
    return other < time || (other === time && (this.#orders[i] ?? 0) < order);
  }

  #move(from: number, to: number): void {
    const run = this.#runs[from];
    if (run !== undefined) this.#set(to, this.#times[from] ?? 0, this.#orders[from] ?? 0, run);
  }

  #set(i: number, time: number, order: number, run: () => void): void {
    this.#times[i] = time;
    this.#orders[i] = order;
    this.#runs[i] = run;
  }
}
