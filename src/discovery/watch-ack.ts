/**
 * Decides, after a policy change, whether a fan-out's watches have been completely notified of it, so that the next change may begin.
 */
import { NEVER, type Time } from "../lib/machine.ts";
import type { Fanout } from "./fanout.ts";

/**
 * Maximum time for which the next change waits for watches to receive the previous one. The next change waits only while some of them make progress.
 */
const ACK_TIMEOUT_MS = 10_000;
const NO_PROGRESS_MS = 1000;
/** Time between two checks for progress. */
const CHECK_INTERVAL_MS = 20;

type Clock = Pick<Time, "monoMs">;

/** Number of watches that have not received the last change completely, and the sum of their positions. */
interface UnackedWatches {
  readonly count: number;
  readonly positions: number;
}

/** The revision that watches must reach, and the deadline for reaching it. */
interface AwaitedChange {
  readonly revision: number;
  readonly untilMonoMs: number;
  /** Set while a caller is waiting: the state at the last check, and the time at which a watch last made progress. */
  wait: { readonly unacked: UnackedWatches; readonly checkedMonoMs: number; readonly movedMonoMs: number } | undefined;
}

export class WatchAck {
  readonly #fanout: Pick<Fanout, "watchers">;
  #change: AwaitedChange | undefined;

  constructor(fanout: Pick<Fanout, "watchers">) {
    this.#fanout = fanout;
  }

  /** Records that a change is complete, and that watches must reach this revision. */
  begin(revision: number, { monoMs }: Clock): void {
    this.#change = { revision, untilMonoMs: monoMs + ACK_TIMEOUT_MS, wait: undefined };
  }

  /**
   * Whether all watches except slow ones have received the change, in this thread and in others. If false, call this method again at
   * `nextDeadlineMs`.
   */
  isOver({ monoMs }: Clock, isAckedElsewhere = true): boolean {
    const change = this.#change;
    if (change === undefined) return true;
    const unacked = this.#unacked(change.revision);
    const before = change.wait;
    const isMoved = before === undefined || unacked.count < before.unacked.count || unacked.positions > before.unacked.positions;
    const movedMonoMs = isMoved ? monoMs : before.movedMonoMs;
    change.wait = { unacked, checkedMonoMs: monoMs, movedMonoMs };
    const isWaiting = !isAckedElsewhere || (unacked.count > 0 && monoMs < movedMonoMs + NO_PROGRESS_MS);
    if (isWaiting && monoMs < change.untilMonoMs) return false;
    this.#change = undefined;
    return true;
  }

  /** Time at which to call `isOver` again, in monotonic ms. NEVER if no caller is waiting. */
  nextDeadlineMs(): number {
    const wait = this.#change?.wait;
    return wait === undefined ? NEVER : wait.checkedMonoMs + CHECK_INTERVAL_MS;
  }

  #unacked(revision: number): UnackedWatches {
    let [count, positions] = [0, 0];
    for (const { feed } of this.#fanout.watchers()) {
      if (!feed.isTelling && feed.revision >= revision) continue;
      count += 1;
      positions += feed.revision;
    }
    return { count, positions };
  }
}
