import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { expect, test } from "vitest";
import { bucketTable } from "../../../src/lib/buckets/shared-buckets.ts";
import { sharedOriginMs } from "../../../src/lib/stall-aware-time.io.ts";
import type { HammerStart } from "./shared-buckets-child.ts";

const THREADS = 2;
const KEYS = 150;

test("threads that take tokens of new keys in the same moments get the limit of each together, on one clock", async () => {
  const options = { limit: 20, windowMs: 3_600_000_000, maxKeys: 2 * KEYS };
  const start: HammerStart = {
    options,
    table: bucketTable(options.maxKeys),
    arrived: new SharedArrayBuffer(4),
    threadCount: THREADS,
    keyCount: KEYS,
  };
  const nowMs = () => performance.now() + sharedOriginMs();
  const beganMs = nowMs();
  const said = await Promise.all(
    Array.from({ length: THREADS }, async () => {
      const thread = new Worker(new URL("shared-buckets-child.ts", import.meta.url), { workerData: start });
      const [message] = (await once(thread, "message")) as [{ readonly taken: readonly number[]; readonly atMs: number }];
      return message;
    }),
  );
  const sums = Array.from({ length: KEYS }, (_, n) => said.reduce((sum, { taken }) => sum + (taken[n] ?? 0), 0));
  expect(sums).toEqual(Array.from({ length: KEYS }, () => options.limit));
  for (const { atMs } of said) {
    expect(atMs).toBeGreaterThan(beganMs);
    expect(atMs).toBeLessThan(nowMs());
  }
});
