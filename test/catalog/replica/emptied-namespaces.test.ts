import { expect, test } from "vitest";
import { EmptiedNamespaces } from "../../../src/catalog/replica/namespace-digest.ts";

test("namespaces are known that emptied since a place, each once, at its last time", () => {
  const emptied = new EmptiedNamespaces();
  emptied.note("a", 3);
  emptied.note("b", 5);
  emptied.note("a", 7);
  expect([emptied.since(2).toSorted(), emptied.since(5), emptied.since(7)]).toEqual([["a", "b"], ["a"], []]);
  expect(emptied.forgottenRevision).toBe(0);
});

test("of more names than are kept the oldest go, and it says up to where", () => {
  const emptied = new EmptiedNamespaces();
  for (let i = 1; i <= 4100; i++) emptied.note(`n${i}`, i * 10);
  expect([emptied.since(0).length, emptied.forgottenRevision]).toEqual([4096, 40]);
});
