/** When a kept lease is renewed, and when it counts as lost. The machines that keep one have tests of their own. */
import { expect, test } from "vitest";
import { leaseLostMonoMs, renewalMonoMs } from "../../src/consumer/client-lease.ts";

const held = (ttlMs: number | undefined) => ({ leaseId: "l1", server: "a:1", ttlMs, sinceMonoMs: 1000 });

test.each([
  { ttlMs: 60_000, first: 16_000, last: 21_000, lost: 31_000 },
  { ttlMs: undefined, first: 23_500, last: 31_000, lost: 46_000 },
])("with a ttl of $ttlMs ms the renewal is due from $first to $last, and without one the lease is lost at $lost", (wanted) => {
  const lease = held(wanted.ttlMs);
  expect(renewalMonoMs(lease, 0)).toBe(wanted.last);
  expect(renewalMonoMs(lease, 1)).toBe(wanted.first);
  expect(leaseLostMonoMs(lease)).toBe(wanted.lost);
});
