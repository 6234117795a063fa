/**
 * Limits how often a resolver changes its watched prefixes. Each change closes a stream and opens another, and servers close connections on which
 * streams end too often. Prefixes requested in the meantime are included in the next change (semantics.md, Resolver 14).
 */
import { NEVER } from "../../lib/machine.ts";

/** Number of changes allowed in a burst. */
const BURST = 8;
/** Maximum number of prefixes that remain watched although they are no longer wanted. */
const MAX_LINGERING = 64;
/** Maximum number of prefixes per watch, as defined by the API. */
const MAX_PREFIXES = 1024;

export interface PaceChange {
  /** Number of prefixes in the open watch. */
  readonly followedCount: number;
  /** Number of these prefixes that are no longer wanted. */
  readonly unwantedCount: number;
  /** Number of wanted prefixes that are not in the open watch. */
  readonly addedCount: number;
}

export interface PaceOptions {
  /** Time after which one more change is allowed. A change ends at most three streams, and nghttp2 allows 33 stream resets per second. */
  readonly intervalMs: number;
  /** How long an unwanted prefix remains watched, because it may be wanted again soon. */
  readonly lingerMs: number;
}

const PACE: PaceOptions = { intervalMs: 500, lingerMs: 5000 };

export class WatchPace {
  readonly #options: PaceOptions;
  /** Token bucket, represented as a time: the changes made so far use up the rate limit until this monotonic time. */
  #paidUntilMonoMs = Number.NEGATIVE_INFINITY;
  #unwantedSinceMonoMs: number | undefined;
  /** Monotonic time at which `next` may return another result. */
  dueMonoMs = NEVER;

  constructor(options: PaceOptions = PACE) {
    this.#options = options;
  }

  /** Returns the change to make now and counts it as made, or returns undefined if there is no change to make. */
  next({ followedCount, unwantedCount, addedCount }: PaceChange, monoMs: number): "narrow" | "add" | undefined {
    const { lingerMs } = this.#options;
    if (unwantedCount === 0) this.#unwantedSinceMonoMs = undefined;
    else this.#unwantedSinceMonoMs ??= monoMs;
    const lingeredMonoMs = unwantedCount === 0 ? NEVER : (this.#unwantedSinceMonoMs ?? monoMs) + lingerMs;
    const isCrowded = unwantedCount > MAX_LINGERING || (unwantedCount > 0 && followedCount + addedCount > MAX_PREFIXES);
    const later = addedCount > 0 ? "add" : lingeredMonoMs <= monoMs ? "narrow" : undefined;
    const change = isCrowded ? "narrow" : later;
    if (change === undefined) this.dueMonoMs = lingeredMonoMs;
    return change !== undefined && this.take(monoMs) ? change : undefined;
  }

  /** Returns whether a change may be made now and, if so, counts it as made. */
  take(monoMs: number): boolean {
    const { intervalMs } = this.#options;
    const earliestMonoMs = this.#paidUntilMonoMs - BURST * intervalMs;
    if (monoMs < earliestMonoMs) {
      this.dueMonoMs = earliestMonoMs;
      return false;
    }
    this.#paidUntilMonoMs = Math.max(this.#paidUntilMonoMs, monoMs) + intervalMs;
    return true;
  }

  /** Makes the next change remove all prefixes that are no longer wanted. */
  scheduleSoon(): void {
    this.#unwantedSinceMonoMs = Number.NEGATIVE_INFINITY;
  }
}
