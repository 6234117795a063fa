/**
 * Rate limits for many callers: a token bucket each, kept as the one number the Generic Cell Rate Algorithm needs
 * (ITU-T I.371): the time at which the bucket would be full again.
 */

export interface BucketOptions {
  /** Tokens in a full bucket, and given back over one window. At least 1. */
  readonly limit: number;
  readonly windowMs: number;
  /** Buckets kept; at least 2. The half used longest ago is dropped. A dropped bucket is full when its key comes back. */
  readonly maxKeys: number;
}

export class TokenBuckets {
  readonly #intervalMs: number;
  readonly #windowMs: number;
  readonly #halfCount: number;
  // Key to the monotonic ms at which its bucket is full. There are two generations: a used key moves to the young one. When
  // that has half the keys, keys that were not used since are dropped. One map in order of use would walk over the holes at its
  // front for each new key, which takes 15 µs and not 0.6 under a flood of new ones (measured at 20,000 keys).
  #young = new Map<string, number>();
  #old = new Map<string, number>();
  #note: ((key: string, count: number) => void) | undefined;

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

  /** Takes one token and returns 0, or takes nothing and returns the ms until there will be one. */
  // HOT: once a limited call.
  take(key: string, monoMs: number): number {
    const fullAtMs = Math.max(this.#find(key) ?? 0, monoMs);
    const next = fullAtMs + this.#intervalMs;
    const waitMs = next - this.#windowMs - monoMs;
    // A little slack: in binary fractions, the sum of a window's intervals is not exactly the window.
    const isTaken = waitMs <= 1e-6 * this.#windowMs;
    this.#keep(key, isTaken ? next : fullAtMs);
    if (!isTaken) return waitMs;
    this.#note?.(key, 1);
    return 0;
  }

  /** Gives back a token, when the call was refused for another reason. */
  giveBack(key: string): void {
    const fullAtMs = this.#find(key);
    if (fullAtMs === undefined) return;
    this.#keep(key, fullAtMs - this.#intervalMs);
    this.#note?.(key, -1);
  }

  /** From now on tells `note` of each token that is taken (1) or given back (-1). Without it, taking costs one branch more and nothing else. */
  noteTo(note: (key: string, count: number) => void): void {
    this.#note = note;
  }

  /**
   * Takes tokens that were used elsewhere, or gives them back if `count` is below 0. It is not noted. The bucket may go below empty, but no key
   * waits longer than one window because of it: what is more is forgotten.
   */
  charge(key: string, count: number, monoMs: number): void {
    const fullAtMs = Math.max(this.#find(key) ?? 0, monoMs) + count * this.#intervalMs;
    this.#keep(key, Math.min(fullAtMs, monoMs + 2 * this.#windowMs - this.#intervalMs));
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
