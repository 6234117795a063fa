/** Limits that several threads enforce together. Their buckets are in shared memory. */

import type { HashKey } from "../../lib/buckets/keyed-hash.ts";
import { bucketTable, SharedBuckets } from "../../lib/buckets/shared-buckets.ts";
import { type BucketOptions, type KeyedBuckets, TokenBuckets } from "../../lib/buckets/token-bucket.ts";
import { InvariantError } from "../../lib/errors.ts";

/** Creates the buckets of one kind. Each kind has a name, which must be the same in all threads. */
export type MakeBuckets = (sort: string, options: BucketOptions) => KeyedBuckets;

/** Created once, and passed to each thread when it starts. The object can be cloned, and its clones share the same memory. */
export interface SharedLimits {
  /** The hash key is random, because anonymous callers can choose the keys of buckets. */
  readonly hashKey: HashKey;
  /** The memory of the buckets, by kind. */
  readonly tables: ReadonlyMap<string, SharedArrayBuffer>;
}

/** Creates buckets that only one thread uses. */
export const ownBuckets: MakeBuckets = (_sort, options) => new TokenBuckets(options);

/**
 * Creates the buckets for one of `of` processes, which do not share memory. Each process gets an equal part of the rate, so that all processes
 * together never exceed the whole rate. If all calls for a key reach one process, they are limited to that process's part.
 */
export function partBuckets(of: number): MakeBuckets {
  return (_sort, options) => {
    const { limit, windowMs } = options;
    const part = Math.max(1, Math.floor(limit / of));
    // The window is adjusted to compensate for rounding, and for a part that was raised to one token.
    return new TokenBuckets({ ...options, limit: part, windowMs: (part * windowMs * of) / limit });
  };
}

/** Creates the shared memory. `needs` must request the buckets of every kind that any thread will request. */
export function shareLimits(hashKey: HashKey, needs: (makeBuckets: MakeBuckets) => void): SharedLimits {
  const tables = new Map<string, SharedArrayBuffer>();
  needs((sort, options) => {
    tables.set(sort, bucketTable(options.maxKeys));
    return ownBuckets(sort, options);
  });
  return { hashKey, tables };
}

/** Creates buckets in shared memory. This thread's monotonic ms plus `originMs` is the time of a clock that all threads share. */
export function sharedBuckets({ hashKey, tables }: SharedLimits, originMs: number): MakeBuckets {
  return (sort, options) => {
    const table = tables.get(sort);
    if (table === undefined) throw new InvariantError(`no shared memory for the buckets of ${sort}`);
    return new SharedBuckets({ ...options, table, hashKey, originMs });
  };
}
