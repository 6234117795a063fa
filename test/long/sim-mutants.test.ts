/** Every mutant that test/sim/mutants.test.ts does not run is found, and how soon: what the simulator cannot find, it does not prove. */
import { expect, test } from "vitest";
import { MUTANTS } from "../sim/mutants.ts";
import { runMutant } from "../sim/mutants-run.ts";

test.concurrent("no mutant, nothing found: what is found is not the planting's (all seeds without one are in test/sim/seeds.test.ts)", async () => {
  const { found } = await runMutant({ name: "none", withinSeeds: 50 });
  expect(found).toBeUndefined();
});

const dear = MUTANTS.filter(({ isCheap }) => isCheap !== true);

test.concurrent.each(dear)("$name is found within $withinSeeds seeds", { timeout: 1_800_000 }, async (mutant) => {
  const { name, rule } = mutant;
  const { isPlanted, found } = await runMutant(mutant);
  expect(isPlanted, "the source has the place to plant it").toBe(true);
  console.error(`${name} (${rule}): seed ${found?.seed}, ${found?.message.split("\n")[0]}`);
  expect(found, "a seed that finds it").toBeDefined();
});
