/** What regions show of each other when clusters, links and hubs are lost for a while; each world takes about half a second. */
import { describe, expect, test } from "vitest";
import { Rng } from "../../src/lib/rng.ts";
import { type HardTime, isAlmostLost } from "./regions/hard-times.ts";

const STORIES: readonly (readonly [string, HardTime, readonly number[]])[] = [
  ["a cluster of which one node is left stays fresh, and nothing of it is taken back", isAlmostLost, [1, 2, 3]],
];

describe.each(STORIES)("%s", (_what, story, seeds) => {
  test.each(seeds)("seed %i", { timeout: 120_000 }, (seed) => {
    const { regions, endMs } = story(`${seed}`, new Rng(`hard time ${seed}`));
    expect(regions.run(endMs).slice(0, 5)).toEqual([]);
    expect(regions.exports.length).toBeGreaterThan(0);
  });
});
