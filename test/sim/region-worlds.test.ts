/** What regions show of each other, in worlds made for the rules of summaries; each takes about half a second. */
import { expect, test } from "vitest";
import { type RegionOutcome, runNamed, runSeed, WORLD_COUNT } from "./region-worlds.ts";

function expectNothingWrong({ violation, exportCount }: RegionOutcome): void {
  expect(violation?.message).toBeUndefined();
  expect(exportCount).toBeGreaterThan(0);
}

test.each(Array.from({ length: WORLD_COUNT }, (_, i) => i + 1))("regions show what they export to each other: world %i", (seed) => {
  expectNothingWrong(runSeed(seed));
});

test.each([
  { world: "isCutOff", seed: 16, found: "that a time did not follow a short ttl" },
  {
    world: "isSplit",
    seed: 26,
    found: "that a part was told for the whole until it was judged next, and that what was not verified yet was taken back",
  },
  { world: "isBesideALoss", seed: 1, found: "that a node ended at once what it had taken over" },
  { world: "isBesideALossOfTime", seed: 1, found: "that nobody told a cluster which lost its disk what it had taken back" },
])("world $world with the times of seed $seed, which found $found", ({ world, seed }) => {
  expectNothingWrong(runNamed(world, seed));
});
