/** Nodes that go on in a new generation, and what becomes of the old ones; each world takes about a tenth of a second. */
import { expect, test } from "vitest";
import { sized } from "../fakes/effort.ts";
import { runSeed } from "./generations.ts";

/** Each story comes up every six seeds. */
const SEEDS = sized(30, 8);

test("what ended in a later generation stays gone while the old one is hidden and forgotten, and what did not is shown", {
  timeout: 120_000,
}, () => {
  const kinds = new Set<string>();
  const happened = new Map<string, number>();
  for (let seed = 1; seed <= SEEDS; seed++) {
    const { violation, kind, events } = runSeed(seed);
    expect(violation?.message, `seed ${seed}: ${kind}`).toBeUndefined();
    kinds.add(kind);
    for (const [name, count] of events) happened.set(name, (happened.get(name) ?? 0) + count);
  }
  expect(kinds.size, "worlds of all sorts").toBeGreaterThan(sized(18, 6));
  for (const name of ["origin_hidden", "origin_forgotten", "origin_back", "orphans_protected"])
    expect([...happened.keys()]).toContain(name);
});
