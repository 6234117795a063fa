/** When old tombstones may go: not while somebody is away or cut off who may come with a record that only they end (P6). */
import type { Time } from "../lib/machine.ts";
import type { ReadyState } from "./readiness.ts";

/** Everybody must have been in reach for so long: many exchanges of vectors, and whole transfers. */
const TOGETHER_MS = 30_000;

export class Collecting {
  /** Since when nobody is away or out of step, as far as was asked. */
  #togetherMonoMs: number | undefined;

  /** Not until whoever was away has had the time to hear of them. */
  mayCollect(
    { isReady, ageMs, isAnybodyAway }: Pick<ReadyState, "isReady" | "ageMs"> & { readonly isAnybodyAway: boolean },
    { monoMs }: Time,
  ): boolean {
    if (!isReady || ageMs > 0 || isAnybodyAway) {
      this.#togetherMonoMs = undefined;
      return false;
    }
    this.#togetherMonoMs ??= monoMs;
    return monoMs - this.#togetherMonoMs >= TOGETHER_MS;
  }
}
