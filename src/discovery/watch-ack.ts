/** After a change of policy: whether the watches of a fan-out have been told of it completely, so that the next change may begin. */
import { NEVER, type Time } from "../lib/machine.ts";
import type { Fanout } from "./fanout.ts";

/** Longest time after a change that the next one waits for watches, and only while some of them make progress. */
const HEARING_MS = 10_000;
const STILL_MS = 1000;
/** Time between two looks at that progress. */
const LOOK_MS = 20;

type Clock = Pick<Time, "monoMs">;

/** Number of watches that have not been told the last change completely, and the sum of their positions. */
interface UnackedWatches {
  readonly count: number;
  readonly places: number;
}

/** The revision that watches must reach, and the time that they have for it. */
interface AwaitedChange {
  readonly revision: number;
  readonly untilMonoMs: number;
  /** While a caller waits: the state at the last look, and the time at which a watch last made progress. */
  wait: { readonly unheard: UnackedWatches; readonly lookedMonoMs: number; readonly movedMonoMs: number } | undefined;
}

export class WatchAck {
  readonly #fanout: Pick<Fanout, "watchers">;
  #change: AwaitedChange | undefined;

  constructor(fanout: Pick<Fanout, "watchers">) {
    this.#fanout = fanout;
  }

  /** A change is complete. Watches have to come up to this revision. */
  begin(revision: number, { monoMs }: Clock): void {
    this.#change = { revision, untilMonoMs: monoMs + HEARING_MS, wait: undefined };
  }

  /** Whether all but slow watches have been told, here and elsewhere. Ask again at `nextDeadlineMs`. */
  isOver({ monoMs }: Clock, isHeardElsewhere = true): boolean {
    const change = this.#change;
    if (change === undefined) return true;
    const unheard = this.#unheard(change.revision);
    const before = change.wait;
    const isMoved = before === undefined || unheard.count < before.unheard.count || unheard.places > before.unheard.places;
    const movedMonoMs = isMoved ? monoMs : before.movedMonoMs;
    change.wait = { unheard, lookedMonoMs: monoMs, movedMonoMs };
    const isWaiting = !isHeardElsewhere || (unheard.count > 0 && monoMs < movedMonoMs + STILL_MS);
    if (isWaiting && monoMs < change.untilMonoMs) return false;
    this.#change = undefined;
    return true;
  }

  /** Monotonic ms at which to ask `isOver` again. NEVER if no caller waits. */
  nextDeadlineMs(): number {
    const wait = this.#change?.wait;
    return wait === undefined ? NEVER : wait.lookedMonoMs + LOOK_MS;
  }

  #unheard(revision: number): UnackedWatches {
    let [count, places] = [0, 0];
    for (const { feed } of this.#fanout.watchers()) {
      if (!feed.isTelling && feed.revision >= revision) continue;
      count += 1;
      places += feed.revision;
    }
    return { count, places };
  }
}
