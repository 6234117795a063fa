/**
 * Rate limits for many callers: a token bucket each, kept as the one number the Generic Cell Rate Algorithm needs
 * (ITU-T I.371): the time at which the bucket would be full again.
 */

export interface BucketOptions {
  /** Tokens in a full bucket, and given back over one window. At least 1. */
  readonly limit: number;
  readonly windowMs: number;
  /** Buckets kept; the half used longest ago goes, and starts full when it comes back. At least 2. */
  readonly maxKeys: number;
}

export class TokenBuckets {
  readonly #intervalMs: number;
  readonly #windowMs: number;
  readonly #halfCount: number;
  // Key to the monotonic ms at which its bucket is full. Two generations: what is used moves to the young one, and when
  // that has half the keys, what was not used since goes. One map in order of use would cost a walk over the holes at its
  // front for each new key, which takes 15 µs and not 0.6 under a flood of new ones (measured at 20,000 keys).
  #young = new Map<string, number>();
  #old = new Map<string, number>();

  constructor(options: BucketOptions) {
    this.#intervalMs = options.windowMs / options.limit;
    this.#windowMs = options.windowMs;
    this.#halfCount = Math.max(1, Math.floor(options.maxKeys / 2));
  }

  /** Buckets kept now, at most `maxKeys`. */
  get size(): number {
    let size = this.#young.size;
    for (const key of this.#old.keys()) if (!this.#young.has(key)) size += 1;
    return size;
  }

  /** Takes one token. Returns 0, or the ms after which there will be one; then nothing is taken. */
  // HOT: once a limited call.
  take(key: string, monoMs: number): number {
    const fullAtMs = Math.max(this.#find(key) ?? 0, monoMs);
    const next = fullAtMs + this.#intervalMs;
    const waitMs = next - this.#windowMs - monoMs;
    // A hair of slack: the sum of a window's intervals is not exactly the window in binary fractions.
    const isTaken = waitMs <= 1e-6 * this.#windowMs;
    this.#keep(key, isTaken ? next : fullAtMs);
    return isTaken ? 0 : waitMs;
  }

  /** Gives a token back that was taken for something then refused for another reason. */
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
