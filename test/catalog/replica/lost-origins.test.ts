/** Origins that were forgotten and may come back, and marks (semantics.md, Orphans). */
import { expect, test } from "vitest";
import { LostOrigins, MAX_LOST } from "../../../src/catalog/replica/lost-origins.ts";
import { FabricComponent, KEYS } from "../../fakes/mesh.ts";

const lost = (nodeId: string, through: number, mark = 0, generation = 1) => ({ nodeId, generation, through, mark });

function having(...words: readonly ReturnType<typeof lost>[]): LostOrigins {
  const origins = new LostOrigins();
  for (const word of words) origins.note(word);
  return origins;
}

test("of words about one origin the higher numbers win, in any order; nothing is known of one at 0", () => {
  const words = [lost("a", 10), lost("a", 7, 7), lost("a", 4, 2)];
  for (const order of [words, words.toReversed()]) expect(having(...order).list).toEqual([lost("a", 10, 7)]);
  expect(having(lost("a", 0)).list).toEqual([]);
  expect(having(lost("a", 3, 9)).list).toEqual([lost("a", 9, 9)]);
});

test("tombstones are kept while an origin may come back with what it wrote above its mark", () => {
  expect([having(), having(lost("a", 10)), having(lost("a", 10, 10)), having(lost("a", 10, 9))].map(({ isHolding }) => isHolding)).toEqual([
    false,
    true,
    false,
    true,
  ]);
  const origins = having(lost("a", 10), lost("b", 5));
  origins.markAll();
  expect([origins.isHolding, origins.markOf("a/1"), origins.markOf("b/1"), origins.markOf("c/1")]).toEqual([false, 10, 5, 0]);
  expect([origins.takeMarked(), origins.takeMarked()]).toEqual([true, false]);
});

test("who is back is waited for until everybody was in step; its mark stays", () => {
  const origins = having(lost("a", 10), lost("b", 5, 3));
  for (const nodeId of ["a", "b"]) origins.memberChanged({ nodeId, generation: 1 }, "alive");
  expect([origins.takeBack(), origins.takeBack(), origins.isHolding]).toEqual([true, false, true]);
  origins.settle();
  expect([origins.list, origins.isHolding]).toEqual([[lost("b", 3, 3)], false]);
});

test.each([
  ["left", 1, []],
  ["left", 2, []],
  ["alive", 2, [lost("a", 10)]],
  ["dead", 1, [lost("a", 10)]],
  ["dead", 2, [lost("a", 10)]],
  ["left", 0, [lost("a", 10)]],
] as const)("a node that is %s in generation %i", (status, generation, left) => {
  const origins = having(lost("a", 10));
  origins.memberChanged({ nodeId: "a", generation }, status);
  expect([origins.list, origins.isHolding]).toEqual([left, left.length > 0]);
});

test("so many are remembered; the first to go are those that only have a mark", () => {
  const origins = having(lost("first", 1), lost("marked", 2, 2));
  for (let i = 0; i < MAX_LOST - 1; i++) origins.note(lost(`n${i}`, 1));
  expect([origins.size, origins.markOf("marked/1"), origins.list[0]?.nodeId]).toEqual([MAX_LOST, 0, "first"]);
  origins.note(lost("last", 1));
  expect([origins.size, origins.list[0]?.nodeId]).toEqual([MAX_LOST, "n0"]);
});

test("a tombstone that ended nothing of a lost origin is not marked when it goes, though that origin's keys are not all known", () => {
  const [key] = KEYS;
  if (key === undefined) throw new Error("there are keys");
  const stored = new FabricComponent("b").put(key, 0, { monoMs: 1, wallMs: 1_760_000_000_000 });
  const origins = having(lost("a", 10));
  expect([origins.mayNeed(key), origins.needs(stored)]).toEqual([true, false]);
  origins.ender(stored);
  expect(origins.needs(stored)).toBe(true);
});
