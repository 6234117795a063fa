/** What regions show of each other when clusters, links and hubs are lost for a while; each world takes about half a second. */
import { describe, expect, test } from "vitest";
import { Rng } from "../../src/lib/rng.ts";
import { some } from "../fakes/effort.ts";
import { type HardTime, isAlmostLost, isARing, isFrozen, losesDisksAndTime, losesItsHub } from "./regions/hard-times.ts";

const STORIES: readonly (readonly [string, HardTime, readonly number[]])[] = [
  ["a cluster of which one node is left stays fresh, and nothing of it is taken back", isAlmostLost, [1, 2, 3]],
  ["spokes that lost their hub under traffic are equal within 5 s after it is back", losesItsHub, [1, 2, 3, 4]],
  ["in a ring a change comes at most three times, and ages of beacons do not add up", isARing, [1, 2]],
  ["an exporter that stood still says nothing old when it goes on", isFrozen, [1, 2, 3]],
  ["a cluster that lost its disks, and whose clocks were set back, is heard again", losesDisksAndTime, [1, 2, 3]],
];

describe.each(STORIES)("%s", (_what, story, seeds) => {
  test.each(some(seeds))("seed %i", { timeout: 120_000 }, (seed) => {
    const { regions, endMs } = story(`${seed}`, new Rng(`hard time ${seed}`));
    expect(regions.run(endMs).slice(0, 5)).toEqual([]);
    expect(regions.exports.length).toBeGreaterThan(0);
  });
});
