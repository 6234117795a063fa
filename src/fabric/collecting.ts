/** When old tombstones may be collected: not while a node is away or cut off that may return with a record that only a tombstone ends (P6). */
import type { LostOrigins } from "../catalog/replica/lost-origins.ts";
import { isStamp, stampOf } from "../lib/hlc.ts";
import type { Time } from "../lib/machine.ts";
import type { ReadyState } from "./readiness.ts";

/** All nodes must have been in reach for this time, which is enough for many exchanges of vectors and for whole transfers. */
const TOGETHER_MS = 30_000;

interface Asked extends Pick<ReadyState, "isInStep"> {
  readonly isAnybodyAway: boolean;
  readonly lost: LostOrigins;
  /** This node's clock differs from those of most others. A time that is long past for it may be still to come. */
  readonly isClockOff: boolean;
}

export class Collecting {
  /** Since when no node is away or out of step, as of the last call. */
  #togetherMonoMs: number | undefined;

  /** They may not before nodes that were away have had the time to hear of them. */
  mayCollect({ isInStep, isAnybodyAway, lost, isClockOff }: Asked, { monoMs, wallMs }: Time): boolean {
    const isSomebodyBack = lost.takeBack();
    if (!isInStep || isAnybodyAway || isSomebodyBack) {
      this.#togetherMonoMs = undefined;
      return false;
    }
    this.#togetherMonoMs ??= monoMs;
    const may = monoMs - this.#togetherMonoMs >= TOGETHER_MS;
    // A node that was lost and came back has heard everything that it missed.
    if (may) lost.settle();
    return may && !isClockOff && isStamp(stampOf(wallMs));
  }
}
