/**
 * Rate limits by token bucket, kept as the one number the Generic Cell Rate Algorithm needs (ITU-T I.371): the time at which the bucket would be full
 * again.
 */

/** One token each `everyMs`, and at most `burst` at a time. Full at first. */
export class TokenBucket {
  readonly #everyMs: number;
  readonly #windowMs: number;
  #fullMonoMs = 0;

  constructor(burst: number, everyMs: number) {
    this.#everyMs = everyMs;
    this.#windowMs = burst * everyMs;
  }

  /** The ms until there are so many tokens; 0 when there are. */
  waitMs(monoMs: number, count = 1): number {
    const waitMs = Math.max(0, this.#fullMonoMs - monoMs) + count * this.#everyMs - this.#windowMs;
    // A little slack: in binary fractions, the sum of a window's intervals is not exactly the window.
    return waitMs <= 1e-6 * this.#windowMs ? 0 : waitMs;
  }

  has(monoMs: number, count = 1): boolean {
    return this.waitMs(monoMs, count) === 0;
  }

  /** Takes tokens, also more than there are. Returns the ms until the missing ones are back; 0 when there were enough. */
  take(monoMs: number, count = 1): number {
    this.#fullMonoMs = Math.max(this.#fullMonoMs, monoMs) + count * this.#everyMs;
    return this.waitMs(monoMs, 0);
  }

  /** Number of tokens, with fractions; below 0 when more were taken than there were. */
  left(monoMs: number): number {
    return (this.#windowMs - Math.max(0, this.#fullMonoMs - monoMs)) / this.#everyMs;
  }
}

export interface BucketOptions {
  /** Tokens in a full bucket, and given back over one window. At least 1. */
  readonly limit: number;
  readonly windowMs: number;
  /** Buckets kept; at least 2. A bucket that is dropped to make room is full when its key comes back. */
  readonly maxKeys: number;
}

/** A bucket for each key, full at first. */
export interface KeyedBuckets {
  /** How many buckets are kept now. There is a bound. */
  readonly size: number;
  /** Takes one token and returns 0, or takes nothing and returns the ms until there will be one. */
  take(key: string, monoMs: number): number;
  /** Gives back a token that was taken, when the call was refused for another reason. */
  giveBack(key: string): void;
}

/** Buckets of one thread. It keeps at most `maxKeys`, and drops the half used longest ago. */
export class TokenBuckets implements KeyedBuckets {
  readonly #options: BucketOptions;
  readonly #halfCount: number;
  // A key that is used moves to the young generation. When this has half of the keys, the old generation is dropped. In a `BoundedMap`, each use would
  // take 80 ns more.
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

  // HOT: once a limited call.
  take(key: string, monoMs: number): number {
    const bucket = this.#find(key);
    const waitMs = bucket.waitMs(monoMs);
    if (waitMs === 0) bucket.take(monoMs);
    return waitMs;
  }

  giveBack(key: string): void {
    this.#find(key).take(0, -1);
  }

  /** The bucket of a key, which is among the young from now on. */
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
