/** When old tombstones may go: not while somebody is away or cut off who may come with a record that only they end (P6). */
import type { LostOrigins } from "../catalog/replica/lost-origins.ts";
import { isStamp, stampOf } from "../lib/hlc.ts";
import type { Time } from "../lib/machine.ts";
import type { ReadyState } from "./readiness.ts";

/** Everybody must have been in reach for so long: many exchanges of vectors, and whole transfers. */
const TOGETHER_MS = 30_000;

interface Asked extends Pick<ReadyState, "isInStep"> {
  readonly isAnybodyAway: boolean;
  readonly lost: LostOrigins;
  /** This node's clock differs from those of most others: what it takes for long ago may be yet to come. */
  readonly isClockOff: boolean;
}

export class Collecting {
  /** Since when nobody is away or out of step, as far as was asked. */
  #togetherMonoMs: number | undefined;

  /** Not until whoever was away has had the time to hear of them. */
  mayCollect({ isInStep, isAnybodyAway, lost, isClockOff }: Asked, { monoMs, wallMs }: Time): boolean {
    const isSomebodyBack = lost.takeBack();
    if (!isInStep || isAnybodyAway || isSomebodyBack) {
      this.#togetherMonoMs = undefined;
      return false;
    }
    this.#togetherMonoMs ??= monoMs;
    const may = monoMs - this.#togetherMonoMs >= TOGETHER_MS;
    // Who was lost, and came back, has heard all that it missed.
    if (may) lost.settle();
    return may && !isClockOff && isStamp(stampOf(wallMs));
  }
}
