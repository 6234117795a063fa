/** The directory of a frozen node is copied and started elsewhere; each world takes about a twentieth of a second. */
import { expect, test } from "vitest";
import { sized } from "../fakes/effort.ts";
import { runSeed } from "./copies.ts";

const SEEDS = sized(50, 20);

test("a node whose directory was started elsewhere acknowledges nothing while others hold that start, then goes on in a new generation", {
  timeout: 120_000,
}, () => {
  for (let seed = 1; seed <= SEEDS; seed++) expect(runSeed(seed).violation?.message, `seed ${seed}`).toBeUndefined();
});
