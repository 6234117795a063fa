/** Names in blocks, against a sorted list. */
import { expect, test } from "vitest";
import { nameIndex, SortedNames } from "../../../src/catalog/query/sorted-blocks.ts";
import { Rng } from "../../../src/lib/rng.ts";

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
  { what: "at the end", gone: 3 },
])("a block $what whose names are all taken out beside long ones is gone: names added since stand in order", ({ gone }) => {
  const names = new SortedNames();
  // One after the other these make four blocks of 256.
  const blocks = [0, 1, 2, 3].map((block) => Array.from({ length: 256 }, (_, i) => `${block}.${String(i).padStart(3, "0")}`));
  for (const name of blocks.flat()) names.add(name);
  names.add("4");
  const longer = blocks.filter((_, block) => block !== gone).flatMap((block) => block.slice(0, 200).map((name) => `${name}+`));
  for (const name of longer) names.add(name);
  const left = [...blocks.filter((_, block) => block !== gone).flat(), ...longer];
  for (const name of [...(blocks[gone] ?? []), "4"]) names.remove(name);
  for (const name of ["0.100++", "2.100++"]) names.add(name);
  expect(names.list()).toEqual([...left, "0.100++", "2.100++"].toSorted());
});
