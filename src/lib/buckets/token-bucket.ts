/**
 * Rate limits by token bucket, stored as the one number that the Generic Cell Rate Algorithm needs (ITU-T I.371): the time at which the
 * bucket would be full again.
 */

/** A bucket that gets one token every `everyMs` ms and has at most `burst` tokens. It starts full. */
export class TokenBucket {
  readonly #everyMs: number;
  readonly #windowMs: number;
  #fullMonoMs = 0;

  constructor(burst: number, everyMs: number) {
    this.#everyMs = everyMs;
    this.#windowMs = burst * everyMs;
  }

  /** Milliseconds until the bucket has `count` tokens, or 0 if it has them now. */
  waitMs(monoMs: number, count = 1): number {
    const waitMs = Math.max(0, this.#fullMonoMs - monoMs) + count * this.#everyMs - this.#windowMs;
    // The tolerance is needed because the sum of a window's intervals is not exactly the window when it is computed with binary fractions.
    return waitMs <= 1e-6 * this.#windowMs ? 0 : waitMs;
  }

  has(monoMs: number, count = 1): boolean {
    return this.waitMs(monoMs, count) === 0;
  }

  /** Consumes tokens, even if there are not enough. Returns the time in ms until the missing tokens are refilled, or 0 if there were enough. */
  take(monoMs: number, count = 1): number {
    this.#fullMonoMs = Math.max(this.#fullMonoMs, monoMs) + count * this.#everyMs;
    return this.waitMs(monoMs, 0);
  }

  /** Number of tokens, including fractions. It is below 0 if more tokens were consumed than there were. */
  left(monoMs: number): number {
    return (this.#windowMs - Math.max(0, this.#fullMonoMs - monoMs)) / this.#everyMs;
  }
}

export interface BucketOptions {
  /** Number of tokens in a full bucket, and number of tokens that are refilled in one window. At least 1. */
  readonly limit: number;
  readonly windowMs: number;
  /**
   * Maximum number of stored buckets, which must be at least 2. A bucket that was dropped for lack of space is treated as full when its key is used
   * again.
   */
  readonly maxKeys: number;
}

/** One bucket per key, which is full at first. */
export interface KeyedBuckets {
  /** Number of buckets that are currently stored. It is bounded. */
  readonly size: number;
  /** Consumes one token and returns 0. If there is none, it consumes nothing and returns the time in ms until a token is available. */
  take(key: string, monoMs: number): number;
  /** Returns a consumed token, because the call was refused for a different reason. */
  giveBack(key: string): void;
}

/** Buckets that are used by a single thread. It stores at most `maxKeys` buckets, and drops the least recently used half. */
export class TokenBuckets implements KeyedBuckets {
  readonly #options: BucketOptions;
  readonly #halfCount: number;
  // A key that is used moves to the young generation. When this generation has half of the keys, the old generation is dropped. With a `BoundedMap`,
  // each use would cost 80 ns more.
  #young = new Map<string, TokenBucket>();
  #old = new Map<string, TokenBucket>();

  constructor(options: BucketOptions) {
    this.#options = options;
    this.#halfCount = Math.max(1, Math.floor(options.maxKeys / 2));
  }

  get size(): number {
    let size = this.#young.size;
    for (const key of this.#old.keys()) if (!this.#young.has(key)) size += 1;
    return size;
  }

  // HOT: runs for each rate-limited call.
  take(key: string, monoMs: number): number {
    const bucket = this.#find(key);
    const waitMs = bucket.waitMs(monoMs);
    if (waitMs === 0) bucket.take(monoMs);
    return waitMs;
  }

  giveBack(key: string): void {
    this.#find(key).take(0, -1);
  }

  /** Returns the bucket of a key, and moves it to the young generation. */
  #find(key: string): TokenBucket {
    const young = this.#young.get(key);
    if (young !== undefined) return young;
    const { limit, windowMs } = this.#options;
    const bucket = this.#old.get(key) ?? new TokenBucket(limit, windowMs / limit);
    if (this.#young.size >= this.#halfCount) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, bucket);
    return bucket;
  }
}
