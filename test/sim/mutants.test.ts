/** The simulator finds planted bugs: the cheapest of them in every build, the others in test/long/sim-mutants.test.ts. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { FOUND_BY } from "./found-by.ts";
import { MUTANTS } from "./mutants.ts";
import { runMutant } from "./mutants-run.ts";

// Names as `%s`, because `$name` is cut at 40 characters, and then `-t` with a whole name runs nothing.
const cheap = MUTANTS.filter(({ isCheap }) => isCheap === true).map((mutant) => [mutant.name, mutant.withinSeeds, mutant] as const);

test.each(cheap)("%s is found within %d seeds", { timeout: 300_000 }, async (_, __, mutant) => {
  const { isPlanted, found } = await runMutant(mutant);
  expect(isPlanted, "the source has the place to plant it").toBe(true);
  expect(found, "a seed that finds it").toBeDefined();
});

test("every seed that is tried first is that of a mutant, and one that finds it may be", () => {
  const within = new Map(MUTANTS.map(({ name, withinSeeds }) => [name, withinSeeds]));
  expect(Object.entries(FOUND_BY).filter(([name, seed]) => seed > (within.get(name) ?? 0))).toEqual([]);
});

test("every mutant has its place in the source, so that none is out of date before the long tests run it", () => {
  const edits = MUTANTS.flatMap((mutant) => mutant.edits.map((edit) => ({ name: mutant.name, ...edit })));
  const misplaced = edits.filter(({ file, find }) => readFileSync(file, "utf8").split(find).length !== 2);
  expect(misplaced.map(({ name, file }) => `${name}: ${file}`)).toEqual([]);
});
