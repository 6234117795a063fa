/** Rate limits that processes share out without memory of both: together they give no more than the whole limit, and all of it. */
import { expect, test } from "vitest";
import { partBuckets } from "../../../src/policy/limits/shared-limits.ts";

const SECONDS = 20;

test.each([
  { limit: 200, of: 1 },
  { limit: 200, of: 2 },
  { limit: 500, of: 3 },
  { limit: 200, of: 64 },
  { limit: 100, of: 64 },
  { limit: 3, of: 8 },
  { limit: 1, of: 4 },
])("$of processes that are all flooded give a key $limit a second together, after one burst of that", ({ limit, of }) => {
  const processes = Array.from({ length: of }, () => partBuckets(of)("any", { limit, windowMs: 1000, maxKeys: 10 }));
  let taken = 0;
  for (let ms = 0; ms <= SECONDS * 1000; ms += 5)
    for (const buckets of processes) for (let tries = 0; tries < limit && buckets.take("192.0.2", ms) === 0; tries++) taken += 1;
  // A part has one token at least.
  const burst = Math.max(limit, of);
  expect(taken).toBeLessThanOrEqual(burst + limit * SECONDS);
  // Nobody gets tokens that one does not take.
  expect(taken).toBeGreaterThanOrEqual(0.9 * limit * SECONDS);
});

test("a key whose calls all reach one process has the part of that process, and another key its own", () => {
  const [one] = Array.from({ length: 4 }, () => partBuckets(4)("any", { limit: 200, windowMs: 1000, maxKeys: 10 }));
  const take = (key: string) => Array.from({ length: 200 }, () => one?.take(key, 0)).filter((waitMs) => waitMs === 0).length;
  expect([take("192.0.2"), take("198.51.100")]).toEqual([50, 50]);
});
