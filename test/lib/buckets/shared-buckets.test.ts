import fc from "fast-check";
import { expect, test } from "vitest";
import { bucketTable, SharedBuckets } from "../../../src/lib/buckets/shared-buckets.ts";
import { type BucketOptions, TokenBuckets } from "../../../src/lib/buckets/token-bucket.ts";
import { HASH_KEY } from "../../fakes/bucket-forms.ts";

/** The buckets as threads have them whose clocks began at these times. A take gets the time of the shared clock. */
function viewsOf(options: BucketOptions, originsMs: readonly number[]) {
  const table = bucketTable(options.maxKeys);
  return originsMs.map((originMs) => {
    const buckets = new SharedBuckets({ ...options, table, hashKey: HASH_KEY, originMs });
    return { take: (key: string, atMs: number) => buckets.take(key, atMs - originMs), giveBack: (key: string) => buckets.giveBack(key) };
  });
}

const STEPS = fc.array(
  fc.record({
    thread: fc.nat(3),
    key: fc.constantFrom("a", "b", "c"),
    gapMs: fc.nat(120),
    times: fc.integer({ min: 1, max: 30 }),
    isBack: fc.boolean(),
  }),
  { maxLength: 80 },
);

test("threads that share buckets take exactly what a lone one would, whichever of them is asked", () => {
  fc.assert(
    fc.property(fc.constantFrom(1, 2, 5, 10, 40, 125), STEPS, (limit, steps) => {
      const options = { limit, windowMs: 1000, maxKeys: 100 };
      const views = viewsOf(options, [0, 3_600_000, 3_600_125, 86_400_000]);
      const lone = new TokenBuckets(options);
      let nowMs = 90_000_000;
      for (const { thread, key, gapMs, times, isBack } of steps) {
        nowMs += gapMs;
        for (let i = 0; i < times; i++) {
          const waitMs = lone.take(key, nowMs);
          expect(views[thread]?.take(key, nowMs)).toBeCloseTo(waitMs);
          if (waitMs > 0 || !isBack || i % 3 > 0) continue;
          lone.giveBack(key);
          views[(thread + i) % 4]?.giveBack(key);
        }
      }
    }),
  );
});

test("whatever the limit is, from any call on no more is taken than a full bucket and what came back", () => {
  const options = fc.record({ limit: fc.double({ min: 1, max: 1e9, noNaN: true }), windowMs: fc.integer({ min: 1000, max: 3_600_000 }) });
  fc.assert(
    fc.property(options, fc.array(fc.double({ min: 0, max: 3000, noNaN: true }), { maxLength: 60 }), ({ limit, windowMs }, gapsMs) => {
      const [one, other] = viewsOf({ limit, windowMs, maxKeys: 2 }, [0, 777.7]);
      const taken: number[] = [];
      let nowMs = 1e6;
      gapsMs.forEach((gapMs, i) => {
        nowMs += gapMs;
        for (let n = 0; n < 50; n++) if ((i % 2 === 0 ? one : other)?.take("a", nowMs) === 0) taken.push(nowMs);
      });
      taken.forEach((atMs, i) => {
        const sinceFirst = atMs - (taken[0] ?? 0);
        // Times are rounded to a sixteenth of a millisecond.
        expect(i + 1).toBeLessThanOrEqual(limit + ((sinceFirst + 1 / 16) * limit) / windowMs + 1e-3);
      });
    }),
  );
});

test("a key that rested is full, also after the years in which the clock of the slots begins anew", () => {
  const [view] = viewsOf({ limit: 2, windowMs: 60_000, maxKeys: 10 }, [0]);
  const spanMs = 2 ** 40 / 16;
  const takeAll = (atMs: number) => [1, 2, 3].map(() => view?.take("a", atMs));
  for (const atMs of [spanMs - 10, 1.5 * spanMs, 2 * spanMs + 120_000, 3 * spanMs - 120_000]) {
    expect(takeAll(atMs)).toEqual([0, 0, 30_000]);
    expect(view?.take("a", atMs + 29_999)).toBeCloseTo(1);
    expect(view?.take("a", atMs + 30_000)).toBe(0);
  }
});

test("as many keys as were asked for are remembered, but for a few in a thousand", () => {
  const [view] = viewsOf({ limit: 1, windowMs: 60_000, maxKeys: 10_000 }, [0]);
  const keys = Array.from({ length: 10_000 }, (_, i) => `address 10.0.${i >> 8}.${i & 255}`);
  for (const key of keys) view?.take(key, 0);
  expect(keys.filter((key) => view?.take(key, 0) === 0).length).toBeLessThan(10);
});

test("where there is no room, a bucket that is full again goes first, and then the one nearest to full", () => {
  // One group of eight.
  const [view] = viewsOf({ limit: 5, windowMs: 5000, maxKeys: 2 }, [0]);
  const take = (key: string, times: number, atMs: number) =>
    Array.from({ length: times }, () => view?.take(key, atMs)).filter((w) => w === 0).length;
  expect(take("rested", 2, 0)).toBe(2);
  const keys = Array.from({ length: 7 }, (_, i) => `key ${i}`);
  for (const key of keys) take(key, 4, 0);
  take("new", 5, 2000);
  // The others have one token left, and two that came back.
  for (const key of keys) expect(take(key, 9, 2000)).toBe(3);
  expect(take("new", 1, 2000)).toBe(0);
  // A crowd makes one of the eight forgotten, and then each of the crowd the one before.
  for (let i = 0; i < 1000; i++) expect(take(`crowd ${i}`, 1, 3000)).toBe(1);
  expect([...keys, "new"].filter((key) => take(key, 9, 3000) > 1)).toHaveLength(1);
});

test("a token of a bucket that is not known is not given back", () => {
  const [view] = viewsOf({ limit: 1, windowMs: 1000, maxKeys: 2 }, [0]);
  view?.giveBack("a");
  expect([view?.take("a", 0), view?.take("a", 0)]).toEqual([0, 1000]);
});
