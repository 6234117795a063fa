/** Nodes that are away for longer than `origin_forget`, in many ways; each world takes about half a second. */
import { expect, test } from "vitest";
import { sized } from "../fakes/effort.ts";
import { runSeed } from "./lost.ts";

const SEEDS = sized(48, 10);

test("a node away for longer than origin_forget: what was taken out stays gone, the rest comes back", { timeout: 300_000 }, () => {
  const kinds = new Set<string>();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const { violation, kind } = runSeed(seed);
    expect(violation?.message, `seed ${seed}: ${kind}`).toBeUndefined();
    kinds.add(kind);
  }
  expect(kinds.size, "worlds of all sorts").toBeGreaterThan(sized(20, 6));
});
