/**
 * Bounds the number of open streams of one rpc, so that no caller can use all of them. A caller can open another stream only while it has fewer open
 * streams than are still free: the dynamic threshold of Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches"
 * (IEEE/ACM Transactions on Networking, 1998), with alpha = 1. One caller alone can therefore open half of the streams.
 */
import { WaymarkError } from "../lib/errors.ts";
import type { Caller } from "../policy/identity/caller.ts";
import { callerKey, callerText } from "../policy/limits/rate-limits.ts";

export class StreamLimit {
  readonly #what: string;
  readonly #max: number;
  /** The number of open streams of each caller. */
  readonly #open = new Map<string, number>();

  /** `what` names the streams in the error. */
  constructor(what: string, max: number) {
    this.#what = what;
    this.#max = max;
  }

  /** Counts an open stream until the returned function is called, which must be called only once. Throws `quota_exceeded`. */
  open(caller: Caller): () => void {
    const key = callerKey(caller);
    const openCount = this.#open.get(key) ?? 0;
    const freeCount = this.#open.values().reduce((free, count) => free - count, this.#max);
    if (openCount >= freeCount)
      throw new WaymarkError(
        "quota_exceeded",
        `too many ${this.#what}: ${callerText(caller)} has ${openCount} on this node, and only ${freeCount} of ${this.#max} are free; a caller must have fewer than are free: close some, use another node, or retry later`,
        { retryMs: 1000 },
      );
    this.#open.set(key, openCount + 1);
    return () => {
      const leftCount = (this.#open.get(key) ?? 1) - 1;
      if (leftCount > 0) this.#open.set(key, leftCount);
      else this.#open.delete(key);
    };
  }
}
