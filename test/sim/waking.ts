/** Wakes the watches of a simulated node, or of a copy of its replica: `WakeupScheduler` says when, in virtual time. */
import { NAME_INDEX_BOUNDS } from "../../src/catalog/watch/name-index.ts";
import type { Fanout } from "../../src/discovery/fanout.ts";
import { WakeupScheduler } from "../../src/discovery/wakeup-scheduler.ts";
import type { SimProcess } from "./sim-node.ts";

/** Watches that one slice wakes: fewer than most nodes have. */
const WOKEN_AT_ONCE = 1;
/** Of many changes one is offered by name at a time. */
export const SLICED_NAMES = { ...NAME_INDEX_BOUNDS, offeredAtATime: 1 };

export class SimWaking {
  readonly #process: SimProcess;
  readonly #fanout: Fanout;
  readonly #isOver: () => boolean;
  readonly #wakeups: WakeupScheduler;
  /** Watches are to be woken, and a slice for it is on its way. */
  #isComing = false;

  constructor(process: SimProcess, fanout: Fanout, isOver = () => false) {
    this.#process = process;
    this.#fanout = fanout;
    this.#isOver = isOver;
    this.#wakeups = new WakeupScheduler(fanout, process.time());
  }

  /** Wakes the watches whose turn is coming: whoever looks now would be woken before it looks again. */
  wakeComing(): void {
    while (this.#isComing) this.#wakeSome();
  }

  lookForBookmarks(): void {
    const process = this.#process;
    process.pause(this.#wakeups.nextDeadlineMs() - process.time().monoMs, () => {
      if (this.#isOver()) return;
      this.#wakeups.tick(process.time());
      this.kick();
      this.lookForBookmarks();
    });
  }

  /** Watches may be ready. */
  kick(): void {
    this.#wakeIn(this.#wakeups.look(this.#process.time()));
  }

  #wakeIn(waitMs: number | undefined): void {
    if (waitMs === undefined) return;
    this.#isComing = true;
    this.#process.pause(waitMs, () => this.wakeComing());
  }

  #wakeSome(): void {
    this.#fanout.offerMore();
    for (let n = 0; n < WOKEN_AT_ONCE; n++) this.#fanout.take()?.wake();
    this.#isComing = false;
    this.#wakeIn(this.#wakeups.woken(this.#process.time()));
  }
}
