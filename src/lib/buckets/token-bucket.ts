/**
 * Rate limits for many callers: a token bucket each, kept as the one number the Generic Cell Rate Algorithm needs
 * (ITU-T I.371): the time at which the bucket would be full again.
 */

export interface BucketOptions {
  /** Tokens in a full bucket, and given back over one window. At least 1. */
  readonly limit: number;
  readonly windowMs: number;
  /** Buckets kept; at least 2. A bucket that is dropped to make room is full when its key comes back. */
  readonly maxKeys: number;
}

/** A bucket for each key, full at first. */
export interface Buckets {
  /** How many buckets are kept now. There is a bound. */
  readonly size: number;
  /** Takes one token and returns 0, or takes nothing and returns the ms until there will be one. */
  take(key: string, monoMs: number): number;
  /** Gives back a token that was taken, when the call was refused for another reason. */
  giveBack(key: string): void;
}

/** Buckets of one thread. It keeps at most `maxKeys`, and drops the half used longest ago. */
export class TokenBuckets implements Buckets {
  readonly #intervalMs: number;
  readonly #windowMs: number;
  readonly #halfCount: number;
  // Key to the monotonic ms at which its bucket is full. There are two generations: a used key moves to the young one. When
  // that has half the keys, keys that were not used since are dropped. One map in order of use would walk over the holes at its
  // front for each new key, which takes 15 µs and not 0.6 under a flood of new ones (measured at 20,000 keys).
  #young = new Map<string, number>();
  #old = new Map<string, number>();

  constructor(options: BucketOptions) {
    this.#intervalMs = options.windowMs / options.limit;
    this.#windowMs = options.windowMs;
    this.#halfCount = Math.max(1, Math.floor(options.maxKeys / 2));
  }

  get size(): number {
    let size = this.#young.size;
    for (const key of this.#old.keys()) if (!this.#young.has(key)) size += 1;
    return size;
  }

  // HOT: once a limited call.
  take(key: string, monoMs: number): number {
    const fullAtMs = Math.max(this.#find(key) ?? 0, monoMs);
    const next = fullAtMs + this.#intervalMs;
    const waitMs = next - this.#windowMs - monoMs;
    // A little slack: in binary fractions, the sum of a window's intervals is not exactly the window.
    const isTaken = waitMs <= 1e-6 * this.#windowMs;
    this.#keep(key, isTaken ? next : fullAtMs);
    return isTaken ? 0 : waitMs;
  }

  giveBack(key: string): void {
    const fullAtMs = this.#find(key);
    if (fullAtMs !== undefined) this.#keep(key, fullAtMs - this.#intervalMs);
  }

  #find(key: string): number | undefined {
    return this.#young.get(key) ?? this.#old.get(key);
  }

  #keep(key: string, fullAtMs: number): void {
    if (this.#young.size >= this.#halfCount && !this.#young.has(key)) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, fullAtMs);
  }
}
