/** Names in blocks, against a sorted list. */
import { expect, test } from "vitest";
import { nameIndex, SortedNames } from "../../src/catalog/sorted-names.ts";
import { Rng } from "../../src/lib/rng.ts";

test("what is added and removed stands in order, from any name on: few, thousands, and few again", () => {
  const rng = new Rng("names");
  const names = new SortedNames();
  let model: string[] = [];
  const check = (first: string) => {
    expect([names.list(), [...names.from(first)]]).toEqual([model, model.slice(nameIndex(model, first))]);
  };
  check("");
  for (const [rounds, addPercent] of [
    [4000, 90],
    [4000, 50],
    [6000, 15],
  ] as const)
    for (let n = 0; n < rounds; n++) {
      const drawn = `org${rng.int(100_000)}.app`;
      const isAdded = model.length === 0 || rng.int(100) < addPercent;
      const name = isAdded ? drawn : (model[rng.int(model.length)] ?? "");
      if (isAdded && model.includes(name)) continue;
      if (isAdded) names.add(name);
      else names.remove(name);
      if (isAdded) model.splice(nameIndex(model, name), 0, name);
      else model = model.filter((each) => each !== name);
      if (n % 500 === 0) for (const first of ["", drawn, "org5", "p"]) check(first);
    }
  for (const name of model) names.remove(name);
  expect(names.list()).toEqual([]);
});

test.each([
  { what: "in the middle", gone: 1 },
  { what: "at the end", gone: 2 },
])("a block $what that is emptied beside full ones is gone: later names stand in order", ({ gone }) => {
  const names = new SortedNames();
  const block = (n: number, count = 500) => Array.from({ length: count }, (_, i) => `${n}.${String(i).padStart(3, "0")}`);
  // The first three halves of what is split become blocks, which then are filled.
  const all = [0, 1, 2].flatMap((n) => block(n));
  for (const name of [0, 1, 2].flatMap((n) => block(n, 256))) names.add(name);
  for (const name of all.filter((each) => Number(each.slice(2)) >= 256)) names.add(name);
  const left = all.filter((name) => !name.startsWith(`${gone}.`));
  for (const name of all.filter((each) => each.startsWith(`${gone}.`))) names.remove(name);
  names.add("0.0001");
  expect(names.list()).toEqual([...left, "0.0001"].toSorted());
});
