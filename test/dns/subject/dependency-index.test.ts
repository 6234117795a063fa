import { expect, test } from "vitest";
import { DependencyIndex } from "../../../src/dns/subject/dependency-index.ts";

test("a plan that read more than can be kept of it rests on everything", () => {
  const facts = new DependencyIndex();
  const keys = new Set(Array.from({ length: 1000 }, (_, i) => `@alias${i}`));
  const taken = facts.take(keys, 10_000);
  expect([taken.length, facts.sizeBytes < 1000]).toEqual([1, true]);
  facts.aliasChanged("another");
  expect(taken.map(({ isOver }) => isOver)).toEqual([true]);
  const all = facts.take(keys, 1_000_000);
  facts.aliasChanged("alias7");
  facts.aliasChanged("another");
  expect([all.length, all.filter(({ isOver }) => isOver).map(({ key }) => key)]).toEqual([1000, ["@alias7"]]);
});
