/** What regions show of each other, in worlds made for the rules of summaries; each takes about half a second. */
import { expect, test } from "vitest";
import { runSeed, WORLD_COUNT } from "./region-worlds.ts";

// The seed of another one, which found that a time did not follow a short ttl.
const SEEDS = [...Array.from({ length: WORLD_COUNT }, (_, i) => i + 1), 16];

test.each(SEEDS)("regions show what they export to each other: world %i", { timeout: 120_000 }, (seed) => {
  const { violation, exportCount } = runSeed(seed);
  expect(violation?.message).toBeUndefined();
  expect(exportCount).toBeGreaterThan(0);
});
