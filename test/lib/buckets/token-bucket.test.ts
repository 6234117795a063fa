import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { TokenBucket, TokenBuckets } from "../../../src/lib/buckets/token-bucket.ts";
import { BUCKET_FORMS } from "../../fakes/bucket-forms.ts";
import { runs } from "../../fakes/effort.ts";

const acts = fc.record({ gapMs: fc.nat(300), count: fc.integer({ min: -3, max: 12 }) });

test("a bucket has the tokens that a counter has which is filled step by step", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 8 }), fc.integer({ min: 1, max: 100 }), fc.array(acts), (burst, everyMs, history) => {
      const bucket = new TokenBucket(burst, everyMs);
      let model = burst;
      let nowMs = 1000;
      for (const { gapMs, count } of history) {
        nowMs += gapMs;
        for (let i = 0; i < gapMs; i++) model = Math.min(burst, model + 1 / everyMs);
        expect(bucket.left(nowMs)).toBeCloseTo(model, 6);
        expect(bucket.waitMs(nowMs, count)).toBeCloseTo(Math.max(0, (count - model) * everyMs), 3);
        expect(bucket.has(nowMs, count)).toBe(bucket.waitMs(nowMs, count) === 0);
        model = Math.min(burst, model - count);
        expect(bucket.take(nowMs, count)).toBeCloseTo(Math.max(0, -model * everyMs), 3);
      }
    }),
    { numRuns: runs(200) },
  );
});

const MINUTE = { limit: 120, windowMs: 60_000, maxKeys: 10 };

describe.each(BUCKET_FORMS)("buckets $form", ({ makeBuckets, mostKept }) => {
  test("a full bucket gives its limit at once, and then says when there is one more", () => {
    const buckets = makeBuckets("test", MINUTE);
    const waits = Array.from({ length: 121 }, () => buckets.take("a", 5));
    expect(waits.slice(0, 120).every((wait) => wait === 0)).toBe(true);
    expect(waits[120]).toBeCloseTo(500);
  });

  test("tokens come back evenly over the window", () => {
    const buckets = makeBuckets("test", MINUTE);
    for (let i = 0; i < 120; i++) buckets.take("a", 0);
    expect(buckets.take("a", 499)).toBeGreaterThan(0);
    expect(buckets.take("a", 500)).toBe(0);
    expect(buckets.take("a", 500)).toBeGreaterThan(0);
  });

  test("one caller's use leaves another's bucket alone", () => {
    const buckets = makeBuckets("test", { ...MINUTE, limit: 1 });
    expect([buckets.take("a", 0), buckets.take("b", 0)]).toEqual([0, 0]);
    expect(buckets.take("a", 0)).toBeGreaterThan(0);
  });

  test("a token given back can be taken again", () => {
    const buckets = makeBuckets("test", { ...MINUTE, limit: 1 });
    buckets.take("a", 0);
    buckets.giveBack("a");
    expect(buckets.take("a", 0)).toBe(0);
  });

  test("a million callers hold no more than the bound", () => {
    const buckets = makeBuckets("test", { ...MINUTE, maxKeys: 2000 });
    let most = 0;
    for (let i = 0; i < 1_000_000; i++) {
      buckets.take(`caller-${i}`, i);
      if (i % 9973 === 0) most = Math.max(most, buckets.size);
    }
    expect(most).toBeGreaterThan(1000);
    expect(most).toBeLessThanOrEqual(mostKept(2000));
  });

  test("in any window no more than twice the limit is taken, and never more than a full bucket at once", () => {
    fc.assert(
      fc.property(fc.array(fc.nat(300), { maxLength: 200 }), (gaps) => {
        const buckets = makeBuckets("test", { limit: 5, windowMs: 1000, maxKeys: 2 });
        const taken: number[] = [];
        let now = 0;
        for (const gap of gaps) {
          now += gap;
          if (buckets.take("a", now) === 0) taken.push(now);
        }
        for (const from of taken) {
          const inWindow = taken.filter((at) => at >= from && at < from + 1000).length;
          expect(inWindow).toBeLessThanOrEqual(10);
          expect(taken.filter((at) => at === from).length).toBeLessThanOrEqual(5);
        }
      }),
    );
  });
});

test("a caller that goes on is remembered while fewer than half the bound of others come by between its calls", () => {
  const buckets = new TokenBuckets({ limit: 1, windowMs: 1e9, maxKeys: 100 });
  expect(buckets.take("a", 0)).toBe(0);
  for (let i = 0; i < 10_000; i++) {
    buckets.take(`other-${i}`, 0);
    if (i % 49 === 0) expect(buckets.take("a", 0)).toBeGreaterThan(0);
  }
});
