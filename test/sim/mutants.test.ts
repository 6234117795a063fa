/** The simulator finds planted bugs: the cheapest of them in every build, all in test/long/sim-mutants.test.ts. */
import { expect, test } from "vitest";
import { MUTANTS } from "./mutants.ts";
import { runMutant } from "./mutants-run.ts";

const cheap = MUTANTS.filter(({ isCheap }) => isCheap === true);

test.each(cheap)("$name is found within $withinSeeds seeds", { timeout: 300_000 }, async ({ name, withinSeeds }) => {
  const { isPlanted, found } = await runMutant(name, withinSeeds);
  expect(isPlanted, "the source has the place to plant it").toBe(true);
  expect(found, "a seed that finds it").toBeDefined();
});
