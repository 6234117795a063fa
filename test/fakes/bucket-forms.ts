/** Both forms of token buckets, for tests that hold for either. */
import type { HashKey } from "../../src/lib/buckets/keyed-hash.ts";
import { bucketTable, SharedBuckets } from "../../src/lib/buckets/shared-buckets.ts";
import { type MakeBuckets, ownBuckets } from "../../src/policy/limits/shared-limits.ts";

export const HASH_KEY: HashKey = [0x1234_5678, 0x9abc_def0];

export interface BucketForm {
  readonly form: string;
  /** With memory of their own for each call. */
  readonly makeBuckets: MakeBuckets;
  /** The most buckets that are kept where so many are asked for. */
  readonly mostKept: (maxKeys: number) => number;
}

export const BUCKET_FORMS: readonly BucketForm[] = [
  { form: "of one thread", makeBuckets: ownBuckets, mostKept: (maxKeys) => maxKeys },
  {
    form: "in shared memory",
    makeBuckets: (_sort, options) =>
      new SharedBuckets({ ...options, table: bucketTable(options.maxKeys), hashKey: HASH_KEY, originMs: 7_200_345 }),
    mostKept: (maxKeys) => bucketTable(maxKeys).byteLength / 8,
  },
];
