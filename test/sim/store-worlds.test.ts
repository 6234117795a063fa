import { expect, test } from "vitest";
import { some } from "../fakes/effort.ts";
import { explain, runSeed } from "./run-seed.ts";

/** Seeds whose story is a control store that is slow, loses answers or is down. */
const SEEDS: readonly number[] = [83, 35, 160];

test.each(some(SEEDS))(
  "seed %i: policies that meet a failing control store are in force everywhere in the end",
  { timeout: 300_000 },
  (seed) => {
    const outcome = runSeed(seed);
    if (outcome.violation !== undefined) expect.fail(explain(seed, undefined, outcome));
    expect(outcome.events.get("store_fault") ?? 0, "answers that were lost").toBeGreaterThan(0);
  },
);
