/** When ready watchers are woken: what changes is gathered for a moment under load, and at once where nothing else goes on. */
import type { Time } from "../lib/machine.ts";
import type { Fanout } from "./fanout.ts";

/** After a flush, further changes are gathered this long: leading edge at once, a bounded delay under load. */
const GATHER_MS = 2;
/** How often bookmarks are looked for; whoever promises one by a time asks for it this much earlier. */
const BOOKMARK_TICK_MS = 200;

type Clock = Pick<Time, "monoMs">;

/** The driver wakes them: after so long as `look` or `woken` says, as many as a turn may hold, and then says `woken`. */
export class Wakeups {
  readonly #fanout: Pick<Fanout, "due" | "readyCount">;
  #flushedMonoMs = Number.NEGATIVE_INFINITY;
  /** Somebody is to be woken, and the driver knows. */
  #isScheduled = false;
  #bookmarkMonoMs: number;

  constructor(fanout: Pick<Fanout, "due" | "readyCount">, { monoMs }: Clock) {
    this.#fanout = fanout;
    this.#bookmarkMonoMs = monoMs + BOOKMARK_TICK_MS;
  }

  /** Some may be ready: in how many ms they are to be woken, 0 for when this turn of the event loop is over; undefined when nothing is to be done. */
  look({ monoMs }: Clock): number | undefined {
    if (this.#isScheduled || this.#fanout.readyCount === 0) return undefined;
    this.#isScheduled = true;
    return Math.max(0, this.#flushedMonoMs + GATHER_MS - monoMs);
  }

  /** Some were woken. Says, as `look` does, when the next are to be: at once, until nobody is left. */
  woken({ monoMs }: Clock): number | undefined {
    if (this.#fanout.readyCount > 0) return 0;
    this.#isScheduled = false;
    this.#flushedMonoMs = monoMs;
    return undefined;
  }

  /** Looks for bookmarks, when that is due; `look` is to be asked then. */
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
