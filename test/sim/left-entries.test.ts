/** What nobody took over when its node stopped is shown also by those who had forgotten it; each world takes about half a second. */
import { expect, test } from "vitest";
import { runSeed } from "./left.ts";

test("half of a cluster forgot a node before it hears how that one stopped, and shows what it left behind", { timeout: 120_000 }, () => {
  for (let seed = 1; seed <= 20; seed++) expect(runSeed(seed).violation?.message, `seed ${seed}`).toBeUndefined();
});
