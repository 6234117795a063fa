/** Runs the fan-out on the event loop: wakes ready watchers in slices, so that ten thousand watchers do not block the loop. */
import type { Time } from "../lib/machine.ts";
import type { Fanout } from "./fanout.ts";
import { WakeupScheduler } from "./wakeup-scheduler.ts";

/** Maximum duration of one slice, and maximum number of watchers in it. Their messages are written together after the slice. */
const SLICE_MS = 2;
const SLICE_WATCHERS = 256;

export class WatchWaker {
  readonly #fanout: Fanout;
  readonly #wakeups: WakeupScheduler;
  readonly #now: () => Time;
  #timer: NodeJS.Timeout | undefined;

  constructor(fanout: Fanout, now: () => Time) {
    this.#fanout = fanout;
    this.#wakeups = new WakeupScheduler(fanout, now());
    this.#now = now;
    this.#arm();
  }

  /** Must be called when watchers may be ready. */
  kick(): void {
    this.#schedule(this.#wakeups.look(this.#now()));
  }

  close(): void {
    clearTimeout(this.#timer);
  }

  #arm(): void {
    const waitMs = Math.max(1, Math.ceil(this.#wakeups.nextDeadlineMs() - this.#now().monoMs));
    this.#timer = setTimeout(() => {
      this.#wakeups.tick(this.#now());
      this.kick();
      this.#arm();
    }, waitMs);
    this.#timer.unref();
  }

  #schedule(waitMs: number | undefined): void {
    if (waitMs === undefined) return;
    if (waitMs > 0) setTimeout(() => this.#slice(), waitMs);
    else setImmediate(() => this.#slice());
  }

  #slice(): void {
    const end = this.#now().monoMs + SLICE_MS;
    this.#fanout.offerMore();
    let n = 0;
    for (let watcher = this.#fanout.take(); watcher !== undefined; watcher = this.#fanout.take()) {
      watcher.wake();
      // Reading the clock costs about as much as waking a watcher, so it is read only for every eighth watcher, and after a watcher that used its
      // whole share of the turn.
      n += 1;
      if (n === SLICE_WATCHERS || ((watcher.isReady || n % 8 === 0) && this.#now().monoMs >= end)) break;
    }
    this.#schedule(this.#wakeups.woken(this.#now()));
  }
}
