/** What nobody took over when its node stopped is shown also by those who had forgotten it; each world takes about half a second. */
import { expect, test } from "vitest";
import { sized } from "../fakes/effort.ts";
import { runSeed } from "./left.ts";

const SEEDS = sized(20, 7);

test("half of a cluster forgot a node before it hears how that one stopped, and shows what it left behind", { timeout: 120_000 }, () => {
  for (let seed = 1; seed <= SEEDS; seed++) expect(runSeed(seed).violation?.message, `seed ${seed}`).toBeUndefined();
});
