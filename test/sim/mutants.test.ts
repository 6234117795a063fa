/**
 * The simulator finds planted bugs. The gate plants a few of the cheap ones, in files that differ from 50 commits ago; the nightly tests plant
 * all of the cheap ones here, and the others in test/long/sim-mutants.test.ts.
 */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { changedFiles } from "../../scripts/changed.ts";
import { run } from "../../scripts/run.ts";
import { Rng } from "../../src/lib/rng.ts";
import { isNight } from "../fakes/effort.ts";
import { FOUND_BY } from "./found-by.ts";
import { MUTANTS } from "./mutants.ts";
import { runMutant } from "./mutants-run.ts";

const cheap = MUTANTS.filter(({ isCheap }) => isCheap === true);
/** The gate plants at most a tenth of the cheap bugs. */
const GATE_COUNT = Math.ceil(cheap.length / 10);

/** The commit is the seed of the draw, so that a failed gate can be repeated and the next commit draws other bugs. */
async function drawnMutants() {
  const [changed, commit] = await Promise.all([changedFiles(), run("git", ["rev-parse", "HEAD"])]);
  const rng = new Rng(commit.output.trim());
  return cheap
    .filter(({ edits }) => changed === undefined || edits.some(({ file }) => changed.includes(file)))
    .map((mutant) => ({ mutant, order: rng.fork(mutant.name).next() }))
    .toSorted((a, b) => a.order - b.order)
    .slice(0, GATE_COUNT)
    .map(({ mutant }) => mutant);
}

const planted = isNight ? cheap : await drawnMutants();
if (!isNight) console.log(`planted bugs: ${planted.map(({ name }) => name).join("; ") || "none, because no file with one differs"}`);

// Names as `%s`, because `$name` is cut at 40 characters, and then `-t` with a whole name runs nothing.
test.each(planted.map((mutant) => [mutant.name, mutant.withinSeeds, mutant] as const))(
  "%s is found within %d seeds",
  { timeout: 300_000 },
  async (_, __, mutant) => {
    const { isPlanted, found } = await runMutant(mutant);
    expect(isPlanted, "the source has the place to plant it").toBe(true);
    expect(found, "a seed that finds it").toBeDefined();
  },
);

test("every seed that is tried first is that of a mutant, and one that finds it may be", () => {
  const within = new Map(MUTANTS.map(({ name, withinSeeds }) => [name, withinSeeds]));
  expect(Object.entries(FOUND_BY).filter(([name, seed]) => seed > (within.get(name) ?? 0))).toEqual([]);
});

test("every mutant has its place in the source, so that none is out of date before the long tests run it", () => {
  const edits = MUTANTS.flatMap((mutant) => mutant.edits.map((edit) => ({ name: mutant.name, ...edit })));
  const misplaced = edits.filter(({ file, find }) => readFileSync(file, "utf8").split(find).length !== 2);
  expect(misplaced.map(({ name, file }) => `${name}: ${file}`)).toEqual([]);
});
