/**
 * Limits that hold for several threads of one node together. Each thread has buckets of its own, full at first. It tells the others what it
 * took, and they take as much from theirs. So a call is refused wherever it arrives as soon as that thread has heard of the calls before it.
 * In any window, the threads together admit at most what a lone one would, and the calls that one of them had not heard of. These are made up
 * for: under steady load, the calls admitted in a window are the limit, give or take N·(1 + the tokens that come back while a message is under way).
 */
import type { TokenBuckets } from "../../lib/token-bucket.ts";

/** What one thread took of buckets of one sort. It can be sent to another thread. */
export interface Charge {
  readonly sort: string;
  /** By key, the tokens taken less those given back; never 0. */
  readonly counts: ReadonlyMap<string, number>;
}

/**
 * Most keys of one sort in one message. Keys above it are not told, so for these calls each thread has a limit of its own. A turn of the event
 * loop is over long before: it would take that many callers, all admitted in it.
 */
export const MAX_KEYS_TOLD = 4096;

interface Shared {
  readonly buckets: TokenBuckets;
  counts: Map<string, number>;
}

export class Charges {
  readonly #onTaken: () => void;
  readonly #shared = new Map<string, Shared>();
  #isTold = false;

  /** `onTaken` is called when the first token since the last `take` was taken or given back. `take` should follow in the same turn of the event loop. */
  constructor(onTaken: () => void) {
    this.#onTaken = onTaken;
  }

  /** Tells of these buckets too. Every thread gives the same sort of buckets the same name. */
  share(sort: string, buckets: TokenBuckets): void {
    const shared: Shared = { buckets, counts: new Map() };
    this.#shared.set(sort, shared);
    buckets.noteTo((key, count) => this.#note(shared, key, count));
  }

  /** What was taken since the last call; empty if nothing was. */
  take(): readonly Charge[] {
    this.#isTold = false;
    const charges: Charge[] = [];
    for (const [sort, shared] of this.#shared) {
      if (shared.counts.size === 0) continue;
      charges.push({ sort, counts: shared.counts });
      shared.counts = new Map();
    }
    return charges;
  }

  /** Takes what another thread took. Sorts that are not shared here are left out. */
  apply(charges: readonly Charge[], monoMs: number): void {
    for (const { sort, counts } of charges) {
      const shared = this.#shared.get(sort);
      if (shared === undefined) continue;
      for (const [key, count] of counts) shared.buckets.charge(key, count, monoMs);
    }
  }

  // HOT: once an admitted call, where a limit is set and threads share it.
  #note({ counts }: Shared, key: string, count: number): void {
    const noted = counts.get(key);
    if (noted === undefined && counts.size >= MAX_KEYS_TOLD) return;
    const sum = (noted ?? 0) + count;
    if (sum === 0) counts.delete(key);
    else counts.set(key, sum);
    if (this.#isTold) return;
    this.#isTold = true;
    this.#onTaken();
  }
}
