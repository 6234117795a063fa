/** Every mutant that test/sim/mutants.test.ts does not run is found, and how soon: what the simulator cannot find, it does not prove. */
import { expect, test } from "vitest";
import { MUTANTS } from "../sim/mutants.ts";
import { runMutant } from "../sim/mutants-run.ts";

test.concurrent("no mutant, nothing found: what is found is not the planting's (all seeds without one are in test/sim/seeds.test.ts)", async () => {
  const { found } = await runMutant({ name: "none", withinSeeds: 50 });
  expect(found).toBeUndefined();
});

// Names as `%s`, because `$name` is cut at 40 characters, and then `-t` with a whole name runs nothing.
const dear = MUTANTS.filter(({ isCheap }) => isCheap !== true).map((mutant) => [mutant.name, mutant.withinSeeds, mutant] as const);

test.concurrent.each(dear)("%s is found within %d seeds", { timeout: 1_800_000 }, async (name, _, mutant) => {
  const { rule } = mutant;
  const { isPlanted, found } = await runMutant(mutant);
  expect(isPlanted, "the source has the place to plant it").toBe(true);
  console.error(`${name} (${rule}): seed ${found?.seed}, ${found?.message.split("\n")[0]}`);
  expect(found, "a seed that finds it").toBeDefined();
});
