/**
 * Rate limits for many callers: a token bucket each, kept as the one number the Generic Cell Rate Algorithm needs
 * (ITU-T I.371): the time at which the bucket would be full again.
 */

export interface BucketOptions {
  /** Tokens in a full bucket, and given back over one window. At least 1. */
  readonly limit: number;
  readonly windowMs: number;
  /** Buckets kept; the least recently used goes, and starts full when it comes back. */
  readonly maxKeys: number;
}

export class TokenBuckets {
  readonly #intervalMs: number;
  readonly #windowMs: number;
  readonly #maxKeys: number;
  /** Key to the monotonic ms at which its bucket is full; in order of last use. */
  readonly #fullAtMs = new Map<string, number>();

  constructor(options: BucketOptions) {
    this.#intervalMs = options.windowMs / options.limit;
    this.#windowMs = options.windowMs;
    this.#maxKeys = options.maxKeys;
  }

  get size(): number {
    return this.#fullAtMs.size;
  }

  /** Takes one token. Returns 0, or the ms after which there will be one; then nothing is taken. */
  take(key: string, monoMs: number): number {
    const fullAtMs = Math.max(this.#fullAtMs.get(key) ?? 0, monoMs);
    const next = fullAtMs + this.#intervalMs;
    const waitMs = next - this.#windowMs - monoMs;
    // A hair of slack: the sum of a window's intervals is not exactly the window in binary fractions.
    const isTaken = waitMs <= 1e-6 * this.#windowMs;
    this.#use(key, isTaken ? next : fullAtMs);
    return isTaken ? 0 : waitMs;
  }

  /** Gives a token back that was taken for something then refused for another reason. */
  giveBack(key: string): void {
    const fullAtMs = this.#fullAtMs.get(key);
    if (fullAtMs !== undefined) this.#fullAtMs.set(key, fullAtMs - this.#intervalMs);
  }

  #use(key: string, fullAtMs: number): void {
    this.#fullAtMs.delete(key);
    this.#fullAtMs.set(key, fullAtMs);
    const [oldest] = this.#fullAtMs.keys();
    if (this.#fullAtMs.size > this.#maxKeys && oldest !== undefined) this.#fullAtMs.delete(oldest);
  }
}
