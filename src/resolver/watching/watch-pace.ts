/**
 * How fast a resolver changes what it follows. Each change ends a stream and opens another one, and a server cuts a connection on which streams end too fast, so
 * what is wanted meanwhile comes with the next change (semantics.md, Resolver 14).
 */
import { NEVER } from "../../lib/machine.ts";

/** Changes that may come at once. */
const BURST = 8;
/** Most prefixes that stay although they are wanted no more. */
const MAX_LINGERING = 64;
/** Most prefixes of a watch, by the contract. */
const MAX_PREFIXES = 1024;

export interface PaceChange {
  /** Prefixes of the watch that is open. */
  readonly followedCount: number;
  /** Of those, what is wanted no more. */
  readonly unwantedCount: number;
  /** What is wanted beside them. */
  readonly addedCount: number;
}

export interface PaceOptions {
  /** After so long one more change may come. A change ends three streams at most, and nghttp2 allows for 33 in a second. */
  readonly intervalMs: number;
  /** So long what is wanted no more stays, because it may soon be wanted again. */
  readonly lingerMs: number;
}

const PACE: PaceOptions = { intervalMs: 500, lingerMs: 5000 };

export class WatchPace {
  readonly #options: PaceOptions;
  /** The changes that were made are behind the clock by so much. */
  #paidUntilMonoMs = Number.NEGATIVE_INFINITY;
  #unwantedSinceMonoMs: number | undefined;
  /** When `next` may say something else. */
  dueMonoMs = NEVER;

  constructor(options: PaceOptions = PACE) {
    this.#options = options;
  }

  /** What to change now: undefined for nothing. What it names is taken for done. */
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

  /** Whether a change may be made now, which is then taken for done. */
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

  /** What is wanted no more goes with the next change. */
  scheduleSoon(): void {
    this.#unwantedSinceMonoMs = Number.NEGATIVE_INFINITY;
  }
}
