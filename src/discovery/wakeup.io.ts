/** Runs the fan-out: wakes ready watchers in slices, so that ten thousand of them never hold the event loop. */
import type { Time } from "../lib/machine.ts";
import type { Fanout } from "./fanout.ts";

/** Longest time one slice of waking may take, and most watchers it wakes: what they were given is written after it, in one go. */
const SLICE_MS = 2;
const SLICE_WATCHERS = 256;
/** After a flush, further changes are gathered this long: leading edge at once, a bounded delay under load. */
const GATHER_MS = 2;
/** How often bookmarks are looked for; whoever promises one by a time asks for it this much earlier. */
const BOOKMARK_TICK_MS = 200;

export class Wakeup {
  readonly #fanout: Fanout;
  readonly #now: () => Time;
  #lastFlushMonoMs = Number.NEGATIVE_INFINITY;
  #isScheduled = false;
  readonly #timer: NodeJS.Timeout;

  constructor(fanout: Fanout, now: () => Time) {
    this.#fanout = fanout;
    this.#now = now;
    this.#timer = setInterval(() => this.#bookmarks(), BOOKMARK_TICK_MS);
    this.#timer.unref();
    fanout.onAgain = () => this.kick();
  }

  /** Something is ready. */
  kick(): void {
    if (this.#isScheduled || this.#fanout.readyCount === 0) return;
    this.#isScheduled = true;
    const waitMs = this.#lastFlushMonoMs + GATHER_MS - this.#now().monoMs;
    if (waitMs > 0) setTimeout(() => this.#slice(), waitMs);
    else setImmediate(() => this.#slice());
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #bookmarks(): void {
    this.#fanout.due(this.#now().monoMs);
    this.kick();
  }

  #slice(): void {
    const end = this.#now().monoMs + SLICE_MS;
    let n = 0;
    for (let watcher = this.#fanout.take(); watcher !== undefined; watcher = this.#fanout.take()) {
      watcher.wake();
      // The clock costs about as much as a wake: ask it now and then, and when one has looked at as much as a turn may.
      n += 1;
      if (n === SLICE_WATCHERS || ((watcher.isReady || n % 8 === 0) && this.#now().monoMs >= end)) break;
    }
    if (this.#fanout.readyCount > 0) {
      setImmediate(() => this.#slice());
      return;
    }
    this.#isScheduled = false;
    this.#lastFlushMonoMs = this.#now().monoMs;
  }
}
