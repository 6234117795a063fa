import fc from "fast-check";
import { expect, test } from "vitest";
import { STALL_CHECK_MS, StallTracker } from "../../src/lib/stall-aware-clock.ts";

/** Looked at as a running loop does, from one time to another. */
function run(clock: StallTracker, fromMs: number, toMs: number): void {
  for (let monoMs = fromMs; monoMs <= toMs; monoMs += STALL_CHECK_MS) clock.nowMs(monoMs);
}

test("in a loop that runs all time counts, also when it is a little late", () => {
  const clock = new StallTracker();
  run(clock, 5_000, 9_000);
  expect([clock.dueMs(9_000), clock.dueMs(9_250), clock.nowMs(9_250), clock.isJustResumed]).toEqual([9_000, 9_250, 9_250, false]);
});

test.each([300, 2_000, 31_500, 86_400_000])(
  "a standstill of %i ms makes nothing due at first, and counts 250 ms in the end",
  (lengthMs) => {
    const clock = new StallTracker();
    run(clock, 0, 1_000);
    const wokeMs = 1_000 + lengthMs;
    expect([clock.dueMs(wokeMs), clock.nowMs(wokeMs), clock.isJustResumed]).toEqual([1_000, 1_250, true]);
    run(clock, wokeMs, wokeMs + 200);
    expect(clock.dueMs(wokeMs + 249)).toBe(1_249);
    expect([clock.dueMs(wokeMs + 250), clock.isJustResumed]).toEqual([1_500, false]);
    expect(clock.lastPause).toEqual({ endMonoMs: wokeMs, lengthMs });
    run(clock, wokeMs + 250, wokeMs + 9_000);
    expect(clock.dueMs(wokeMs + 9_000)).toBe(10_250);
  },
);

test("what is set just after a standstill has its whole time, and it is known when it is due", () => {
  const clock = new StallTracker();
  run(clock, 0, 1_000);
  const deadlineMs = clock.nowMs(31_000) + 1_000;
  run(clock, 31_100, 31_900);
  expect([clock.dueMs(31_999) < deadlineMs, clock.dueMs(32_000) < deadlineMs]).toEqual([true, false]);
  expect(clock.dueMonoMs(deadlineMs)).toBe(32_000);
});

test("where every look is late time goes on all the same, 250 ms a look", () => {
  const clock = new StallTracker();
  const times = [0, 1_000, 2_000, 3_000, 4_000].map((monoMs) => clock.dueMs(monoMs));
  expect(times).toEqual([0, 0, 250, 500, 750]);
});

test("a time before the last look changes nothing", () => {
  const clock = new StallTracker();
  clock.nowMs(1_000);
  expect([clock.nowMs(500), clock.dueMs(1_200)]).toEqual([500, 1_200]);
});

/** Between two looks: as a running loop, late ones, and standstills; whether a lease is renewed then, or only looked at. */
const looks = fc.array(
  fc.record({
    gapMs: fc.oneof(fc.integer({ min: 0, max: 260 }), fc.constantFrom(249, 250, 251, 500), fc.integer({ min: 250, max: 60_000 })),
    isRenewal: fc.boolean(),
  }),
  { minLength: 1, maxLength: 60 },
);

test("after whatever standstills, no lease ends before its ttl since its renewal, nor at a standstill's first look, and each ends", () => {
  fc.assert(
    fc.property(looks, fc.integer({ min: 300, max: 5_000 }), (steps, ttlMs) => {
      const clock = new StallTracker();
      let monoMs = 0;
      let lease = { sinceMs: 0, deadlineMs: clock.nowMs(0) + ttlMs, countedMs: 0 };
      for (const { gapMs, isRenewal } of steps) {
        monoMs += gapMs;
        lease.countedMs += Math.min(gapMs, 250);
        const isDue = clock.dueMs(monoMs) >= lease.deadlineMs;
        // The slowest that may be: each standstill counts 250 ms, the last one not yet.
        if (isDue) expect(lease.countedMs).toBeGreaterThanOrEqual(ttlMs);
        else expect(lease.countedMs - 250).toBeLessThan(ttlMs);
        if (isDue || isRenewal) lease = { sinceMs: monoMs, deadlineMs: clock.nowMs(monoMs) + ttlMs, countedMs: 0 };
      }
      run(clock, monoMs, monoMs + 250 + ttlMs);
      expect(clock.dueMs(monoMs + 250 + ttlMs)).toBeGreaterThanOrEqual(lease.deadlineMs);
    }),
  );
});
