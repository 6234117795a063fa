/** A sorted list in blocks, against a sorted array. */
import { expect, test } from "vitest";
import { SortedBlocks } from "../../../src/catalog/query/sorted-blocks.ts";
import { Rng } from "../../../src/lib/rng.ts";

interface Item {
  readonly at: number;
}

test("what comes and goes stands in its order, from any place on and before it: few, thousands, and none again", () => {
  const rng = new Rng("blocks");
  const list = new SortedBlocks<Item>((a, b) => a.at > b.at);
  const model = new Map<number, Item>();
  const check = (place: number) => {
    const sorted = [...model.values()].toSorted((a, b) => b.at - a.at);
    const isReached = ({ at }: Item) => at <= place;
    expect(list.list()).toEqual(sorted);
    expect([...list.from(isReached)]).toEqual(sorted.filter(isReached));
    expect(list.before(isReached)).toBe(sorted.findLast((item) => !isReached(item)));
  };
  check(0);
  for (const [count, addPercent] of [
    [2000, 90],
    [2000, 50],
    [3000, 15],
  ] as const)
    for (let n = 0; n < count; n++) {
      const known = [...model.keys()];
      const isAdded = known.length === 0 || rng.int(100) < addPercent;
      const at = isAdded ? rng.int(100_000) : (known[rng.int(known.length)] ?? 0);
      const item = model.get(at) ?? { at };
      if (isAdded && model.has(at)) continue;
      if (isAdded) list.add(item);
      else list.remove(item);
      if (isAdded) model.set(at, item);
      else model.delete(at);
      if (n % 400 === 0) for (const place of [-1, at, rng.int(100_000), 100_000]) check(place);
    }
  for (const item of model.values()) list.remove(item);
  model.clear();
  check(0);
});

test.each([
  { what: "in order", of: (n: number) => n },
  { what: "in reverse", of: (n: number) => 999 - n },
])("what comes $what stands in order", ({ of }) => {
  const list = new SortedBlocks<Item>((a, b) => a.at < b.at);
  for (let n = 0; n < 1000; n++) list.add({ at: of(n) });
  expect(list.list().map(({ at }) => at)).toEqual(Array.from({ length: 1000 }, (_, n) => n));
});

test("what takes the place of another stands in its own order, near and far", () => {
  const rng = new Rng("places");
  const list = new SortedBlocks<Item>((a, b) => a.at < b.at);
  let model = Array.from({ length: 500 }, (_, n) => ({ at: 100 * n }));
  for (const item of model) list.add(item);
  for (let n = 0; n < 1000; n++) {
    const item = model[rng.int(model.length)] ?? { at: -1 };
    const at = rng.int(2) === 0 ? rng.int(50_000) : item.at + rng.int(99) - 49;
    if (model.some((other) => other !== item && other.at === at)) continue;
    const next = { at };
    list.replace(item, next);
    model = model.with(model.indexOf(item), next);
    if (n % 50 === 0) expect(list.list()).toEqual(model.toSorted((a, b) => a.at - b.at));
  }
  expect(list.list()).toEqual(model.toSorted((a, b) => a.at - b.at));
});

test("only an item that is there is removed", () => {
  const list = new SortedBlocks<Item>((a, b) => a.at < b.at);
  list.add({ at: 1 });
  for (const at of [0, 1, 2]) expect(() => list.remove({ at })).toThrow("the item to remove is not at its position in the list");
});
