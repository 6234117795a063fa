/** The rules by which the parts of a node are joined, in worlds made for them; each takes about a tenth of a second. */
import { expect, test } from "vitest";
import { sized } from "../fakes/effort.ts";
import { runSeed } from "./node-worlds.ts";

/** Each world comes up every seven seeds. */
const SEEDS = sized(50, 21);

test("stops, starts and commits of a node are seen by the others as they are", { timeout: 120_000 }, () => {
  for (let seed = 1; seed <= SEEDS; seed++) expect(runSeed(seed).violation?.message, `seed ${seed}`).toBeUndefined();
});
