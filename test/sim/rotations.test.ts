/** Roots are replaced in worlds that a seed draws; each takes about a millisecond. */
import { expect, test } from "vitest";
import { sized } from "../fakes/effort.ts";
import { runSeed } from "./rotations.ts";

const SEEDS = sized(2000, 100);

test("while roots are published, used and dropped, every live node accepts the certificates of all others", async () => {
  const happened = new Map<string, number>();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const outcome = await runSeed(seed);
    expect(outcome.violation, `seed ${seed}`).toBeUndefined();
    for (const [name, count] of Object.entries(outcome.happened)) happened.set(name, (happened.get(name) ?? 0) + count);
  }
  console.log("rotations:", Object.fromEntries(happened));
  expect(
    ["renewed", "published", "dropped", "not_ready", "quota_exceeded", "invalid_argument"].filter((name) => !happened.has(name)),
  ).toEqual([]);
});
