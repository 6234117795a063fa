/** Limits that several threads enforce together. The buckets are in shared memory. */

import type { HashKey } from "../../lib/buckets/keyed-hash.ts";
import { bucketTable, SharedBuckets } from "../../lib/buckets/shared-buckets.ts";
import { type BucketOptions, type KeyedBuckets, TokenBuckets } from "../../lib/buckets/token-bucket.ts";
import { InvariantError } from "../../lib/errors.ts";

/** Makes the buckets of one kind. Each kind has a name that is the same in all threads. */
export type MakeBuckets = (sort: string, options: BucketOptions) => KeyedBuckets;

/** Created once, and passed to each thread at its start: it can be cloned, and the clones share the same memory. */
export interface SharedLimits {
  /** Random, because anonymous callers choose the keys. */
  readonly hashKey: HashKey;
  /** The memory of the buckets, by kind. */
  readonly tables: ReadonlyMap<string, SharedArrayBuffer>;
}

/** Buckets that only one thread uses. */
export const ownBuckets: MakeBuckets = (_sort, options) => new TokenBuckets(options);

/**
 * Makes the buckets of one of `of` processes, which share no memory. Each process gets an equal part of the rate, so that all processes
 * together never exceed the whole rate. A key whose calls all reach one process is limited to that part.
 */
export function partBuckets(of: number): MakeBuckets {
  return (_sort, options) => {
    const { limit, windowMs } = options;
    const part = Math.max(1, Math.floor(limit / of));
    // The window compensates for rounding, and for a part that was raised to one token.
    return new TokenBuckets({ ...options, limit: part, windowMs: (part * windowMs * of) / limit });
  };
}

/** Creates the shared memory. `needs` must request the buckets of each kind that a thread will request. */
export function shareLimits(hashKey: HashKey, needs: (makeBuckets: MakeBuckets) => void): SharedLimits {
  const tables = new Map<string, SharedArrayBuffer>();
  needs((sort, options) => {
    tables.set(sort, bucketTable(options.maxKeys));
    return ownBuckets(sort, options);
  });
  return { hashKey, tables };
}

/** Makes buckets in shared memory. Adding `originMs` to this thread's monotonic ms gives the time of a clock common to all threads. */
export function sharedBuckets({ hashKey, tables }: SharedLimits, originMs: number): MakeBuckets {
  return (sort, options) => {
    const table = tables.get(sort);
    if (table === undefined) throw new InvariantError(`no shared memory for the buckets of ${sort}`);
    return new SharedBuckets({ ...options, table, hashKey, originMs });
  };
}
