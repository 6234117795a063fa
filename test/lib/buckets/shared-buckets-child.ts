/** A thread of `shared-buckets.io.test.ts`: takes tokens of one key after the other, each together with the other threads, and says how many it got. */
import { parentPort, workerData } from "node:worker_threads";
import { SharedBuckets } from "../../../src/lib/buckets/shared-buckets.ts";
import type { BucketOptions } from "../../../src/lib/buckets/token-bucket.ts";
import { sharedOriginMs } from "../../../src/lib/stall-aware-time.io.ts";
import { HASH_KEY } from "../../fakes/bucket-forms.ts";

export interface HammerStart {
  readonly options: BucketOptions;
  readonly table: SharedArrayBuffer;
  readonly arrived: SharedArrayBuffer;
  readonly threadCount: number;
  readonly keyCount: number;
}

const { options, table, arrived, threadCount, keyCount } = workerData as HammerStart;
const buckets = new SharedBuckets({ ...options, table, hashKey: HASH_KEY, originMs: sharedOriginMs() });
const arrivals = new Int32Array(arrived);
const taken: number[] = [];
for (let n = 0; n < keyCount; n++) {
  Atomics.add(arrivals, 0, 1);
  while (Atomics.load(arrivals, 0) < threadCount * (n + 1));
  let count = 0;
  for (let i = 0; i < 2 * options.limit; i++) {
    if (buckets.take(`key ${n}`, performance.now()) > 0) continue;
    count += 1;
    // Some are given back, and taken again by any of the threads.
    if (i % 5 > 0) continue;
    buckets.giveBack(`key ${n}`);
    count -= 1;
  }
  taken.push(count);
}
parentPort?.postMessage({ taken, atMs: performance.now() + sharedOriginMs() }, []);
