/** Every mutant is found, and how soon: what the simulator cannot find, it does not prove. */
import { expect, test } from "vitest";
import { MUTANTS } from "../sim/mutants.ts";
import { runMutant } from "../sim/mutants-run.ts";

test("no mutant, nothing found: the same seeds pass without one", { timeout: 1_800_000 }, async () => {
  const { found } = await runMutant("none", 300);
  expect(found).toBeUndefined();
});

test.concurrent.each(MUTANTS)("$name is found within $withinSeeds seeds", { timeout: 1_800_000 }, async ({ name, rule, withinSeeds }) => {
  const { isPlanted, found } = await runMutant(name, withinSeeds);
  expect(isPlanted, "the source has the place to plant it").toBe(true);
  console.error(`${name} (${rule}): seed ${found?.seed}, ${found?.message.split("\n")[0]}`);
  expect(found, "a seed that finds it").toBeDefined();
});
