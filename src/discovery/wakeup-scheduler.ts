/** Decides when ready watchers are woken: at once if nothing else goes on, and after a short delay under load. */
import type { Time } from "../lib/machine.ts";
import type { Fanout } from "./fanout.ts";

/** After a flush, further changes are collected for this long. So the first change is sent at once, and the delay under load is bounded. */
const GATHER_MS = 2;
/** Time between two looks for due bookmarks. A stream that promises a bookmark by a time asks for it this much earlier. */
const BOOKMARK_TICK_MS = 200;

type Clock = Pick<Time, "monoMs">;

/** The driver waits as long as `look` or `woken` says, wakes as many watchers as a turn may hold, and then calls `woken`. */
export class WakeupScheduler {
  readonly #fanout: Pick<Fanout, "due" | "isOwing">;
  #flushedMonoMs = Number.NEGATIVE_INFINITY;
  /** Some watcher must be woken, and the driver knows it. */
  #isScheduled = false;
  #bookmarkMonoMs: number;

  constructor(fanout: Pick<Fanout, "due" | "isOwing">, { monoMs }: Clock) {
    this.#fanout = fanout;
    this.#bookmarkMonoMs = monoMs + BOOKMARK_TICK_MS;
  }

  /**
   * Some watchers may be ready. Returns the ms after which to wake them, 0 for the end of this turn of the event loop; undefined if there
   * is nothing to do.
   */
  look({ monoMs }: Clock): number | undefined {
    if (this.#isScheduled || !this.#fanout.isOwing) return undefined;
    this.#isScheduled = true;
    return Math.max(0, this.#flushedMonoMs + GATHER_MS - monoMs);
  }

  /** Some watchers were woken, or changes offered. Returns like `look` when to wake the next ones: at once, until none is left. */
  woken({ monoMs }: Clock): number | undefined {
    if (this.#fanout.isOwing) return 0;
    this.#isScheduled = false;
    this.#flushedMonoMs = monoMs;
    return undefined;
  }

  /** Looks for due bookmarks. Call `look` afterwards. */
  tick({ monoMs }: Clock): void {
    if (monoMs < this.#bookmarkMonoMs) return;
    this.#bookmarkMonoMs = monoMs + BOOKMARK_TICK_MS;
    this.#fanout.due(monoMs);
  }

  /** Monotonic ms of the next `tick`. */
  nextDeadlineMs(): number {
    return this.#bookmarkMonoMs;
  }
}
