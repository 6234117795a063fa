/** Decides when ready watchers are woken: immediately if the fan-out is idle, and after a short delay under load. */
import type { Time } from "../lib/machine.ts";
import type { Fanout } from "./fanout.ts";

/**
 * Time after a flush during which further changes are collected. The first change is sent immediately, and the delay under load is limited.
 */
const GATHER_MS = 2;
/** Time between two searches for due bookmarks. A stream that must send a bookmark by a deadline requests it this much earlier. */
const BOOKMARK_TICK_MS = 200;

type Clock = Pick<Time, "monoMs">;

/** The driver waits for as long as `look` or `woken` returns, wakes as many watchers as fit in one turn, and then calls `woken`. */
export class WakeupScheduler {
  readonly #fanout: Pick<Fanout, "due" | "hasPendingWork">;
  #flushedMonoMs = Number.NEGATIVE_INFINITY;
  /** Whether a watcher must be woken and the driver has been informed. */
  #isScheduled = false;
  #bookmarkMonoMs: number;

  constructor(fanout: Pick<Fanout, "due" | "hasPendingWork">, { monoMs }: Clock) {
    this.#fanout = fanout;
    this.#bookmarkMonoMs = monoMs + BOOKMARK_TICK_MS;
  }

  /**
   * Must be called when watchers may be ready. Returns the ms after which to wake them, 0 for the end of this turn of the event loop, or
   * undefined if there is nothing to do.
   */
  look({ monoMs }: Clock): number | undefined {
    if (this.#isScheduled || !this.#fanout.hasPendingWork) return undefined;
    this.#isScheduled = true;
    return Math.max(0, this.#flushedMonoMs + GATHER_MS - monoMs);
  }

  /**
   * Must be called after watchers have been woken or changes have been matched. Like `look`, returns when to wake the next watchers: 0 as long as any
   * are left.
   */
  woken({ monoMs }: Clock): number | undefined {
    if (this.#fanout.hasPendingWork) return 0;
    this.#isScheduled = false;
    this.#flushedMonoMs = monoMs;
    return undefined;
  }

  /** Queues watchers with due bookmarks. `look` must be called afterwards. */
  tick({ monoMs }: Clock): void {
    if (monoMs < this.#bookmarkMonoMs) return;
    this.#bookmarkMonoMs = monoMs + BOOKMARK_TICK_MS;
    this.#fanout.due(monoMs);
  }

  /** Time of the next `tick`, in monotonic ms. */
  nextDeadlineMs(): number {
    return this.#bookmarkMonoMs;
  }
}
