/** Limits that hold for several threads together: their buckets lie in memory that all of them have. */

import type { HashKey } from "../../lib/buckets/keyed-hash.ts";
import { bucketTable, SharedBuckets } from "../../lib/buckets/shared-buckets.ts";
import { type BucketOptions, type KeyedBuckets, TokenBuckets } from "../../lib/buckets/token-bucket.ts";
import { InvariantError } from "../../lib/errors.ts";

/** Makes the buckets of one sort. Every sort has its name, the same in all threads. */
export type MakeBuckets = (sort: string, options: BucketOptions) => KeyedBuckets;

/** Made once, and handed to each thread when it starts: it can be cloned, and the clones have the same memory. */
export interface SharedLimits {
  /** Random, because strangers choose the keys. */
  readonly hashKey: HashKey;
  /** By sort, the memory of its buckets. */
  readonly tables: ReadonlyMap<string, SharedArrayBuffer>;
}

/** Buckets of a thread that shares them with no other. */
export const ownBuckets: MakeBuckets = (_sort, options) => new TokenBuckets(options);

/**
 * Buckets of one of so many processes, which share no memory. Each has that part of the rate, so all together give no key more than the whole. A key whose
 * calls all reach one of them has only its part.
 */
export function partBuckets(of: number): MakeBuckets {
  return (_sort, options) => {
    const { limit, windowMs } = options;
    const part = Math.max(1, Math.floor(limit / of));
    // What rounding takes off, or one token of a part below one puts on, the window makes up for.
    return new TokenBuckets({ ...options, limit: part, windowMs: (part * windowMs * of) / limit });
  };
}

/** Makes what threads share. `needs` is to ask for the buckets of each sort that a thread will ask for. */
export function shareLimits(hashKey: HashKey, needs: (makeBuckets: MakeBuckets) => void): SharedLimits {
  const tables = new Map<string, SharedArrayBuffer>();
  needs((sort, options) => {
    tables.set(sort, bucketTable(options.maxKeys));
    return ownBuckets(sort, options);
  });
  return { hashKey, tables };
}

/** Buckets that this thread shares. `originMs` is what is added to its monotonic ms to get those of a clock that all threads have. */
export function sharedBuckets({ hashKey, tables }: SharedLimits, originMs: number): MakeBuckets {
  return (sort, options) => {
    const table = tables.get(sort);
    if (table === undefined) throw new InvariantError(`no memory is shared for the buckets of ${sort}`);
    return new SharedBuckets({ ...options, table, hashKey, originMs });
  };
}
