/** A node whose directory is copied and started again, in many ways; each world takes some 20 ms. */
import { expect, test } from "vitest";
import { sized } from "../fakes/effort.ts";
import { runSeed } from "./starts.ts";

const SEEDS = sized(250, 30);

test("of several starts of one directory at most one takes writes, and none that others do not see", { timeout: 300_000 }, () => {
  const happened = new Set<string>();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const { violation, happened: all } = runSeed(seed);
    expect(violation?.message, `seed ${seed}`).toBeUndefined();
    for (const what of all.keys()) happened.add(what);
  }
  for (const state of ["up", "dead"]) expect(happened).toContain(`a copy started while another is ${state}`);
  for (const what of ["a start frozen and copied", "a start overruled while it was frozen", "a cut", "a member that forgets"])
    expect(happened).toContain(what);
});
