/** Orders about maintenance while keys and owners change, nodes start again and are cut off; each world takes about a tenth of a second. */
import { expect, test } from "vitest";
import { runSeed } from "./orders.ts";

test("every node shows what was ordered: operators' orders for all, an owner's for its own entries, wherever they are registered", {
  timeout: 120_000,
}, () => {
  const acts = new Map<string, number>();
  const shown = new Set<string>();
  for (let seed = 1; seed <= 12; seed++) {
    const outcome = runSeed(seed);
    expect(outcome.violation?.message, `seed ${seed}`).toBeUndefined();
    for (const [act, count] of outcome.acts) acts.set(act, (acts.get(act) ?? 0) + count);
    for (const state of outcome.shown) shown.add(state);
  }
  const seldom = ["register", "move", "takeOut", "report", "order", "end", "changed", "unchanged", "refused"].filter(
    (act) => (acts.get(act) ?? 0) < 4,
  );
  expect(seldom).toEqual([]);
  expect([...shown].toSorted()).toEqual(["ann in maintenance", "ann in traffic", "bob in maintenance", "bob in traffic", "nothing"]);
});
