import { expect, test } from "vitest";
import { LostOrigins } from "../../src/catalog/replica/lost-origins.ts";
import { CollectionGate } from "../../src/fabric/readiness.ts";

const TOGETHER = { isInStep: true, isAnybodyAway: false, isClockOff: false, lost: new LostOrigins() };
const at = (monoMs: number) => ({ monoMs, wallMs: 0 });

test("P6: old tombstones go when everybody has been in reach for 30 s", () => {
  const collecting = new CollectionGate();
  expect([1000, 15_000, 30_999, 31_000].map((ms) => collecting.mayCollect(TOGETHER, at(ms)))).toEqual([false, false, false, true]);
});

test.each([
  ["not ready, or out of step with somebody", { isInStep: false }],
  ["without somebody", { isAnybodyAway: true }],
])("P6: a node that is %s keeps them, and the time begins anew", (_what, apart) => {
  const collecting = new CollectionGate();
  collecting.mayCollect(TOGETHER, at(0));
  expect(collecting.mayCollect({ ...TOGETHER, ...apart }, at(40_000))).toBe(false);
  expect([40_001, 70_000, 70_001].map((ms) => collecting.mayCollect(TOGETHER, at(ms)))).toEqual([false, false, true]);
});

test("a node whose clock is off keeps them until it is right again: some that end what is yet to come look old to it", () => {
  const collecting = new CollectionGate();
  const off = { ...TOGETHER, isClockOff: true };
  expect([0, 40_000].map((ms) => collecting.mayCollect(off, at(ms)))).toEqual([false, false]);
  const in2100 = { monoMs: 40_001, wallMs: Date.UTC(2100, 0, 2) };
  expect([in2100, at(40_001)].map((time) => collecting.mayCollect(TOGETHER, time))).toEqual([false, true]);
});

test("P6: who was forgotten and is back has that time too, however long the others have been together", () => {
  const [collecting, lost] = [new CollectionGate(), new LostOrigins()];
  lost.note({ nodeId: "a", generation: 1, through: 10, mark: 0 });
  const mayCollect = (ms: number) => collecting.mayCollect({ ...TOGETHER, lost }, at(ms));
  expect([mayCollect(0), mayCollect(60_000)]).toEqual([false, true]);
  lost.memberChanged({ nodeId: "a", generation: 1 }, "alive");
  expect([mayCollect(60_001), mayCollect(90_000), lost.isHolding]).toEqual([false, false, true]);
  expect(mayCollect(90_002)).toBe(false);
  expect([mayCollect(120_002), lost.isHolding]).toEqual([true, false]);
});

test("P6: so it is with one that is back in a later generation: what it had goes on in that one", () => {
  const [collecting, lost] = [new CollectionGate(), new LostOrigins()];
  for (const mark of [0, 7]) lost.note({ nodeId: mark === 0 ? "a" : "b", generation: 1, through: 10, mark });
  const mayCollect = (ms: number) => collecting.mayCollect({ ...TOGETHER, lost }, at(ms));
  expect([mayCollect(0), mayCollect(60_000)]).toEqual([false, true]);
  for (const nodeId of ["a", "b"]) lost.memberChanged({ nodeId, generation: 2 }, "alive");
  expect([mayCollect(60_001), mayCollect(90_000), lost.isHolding]).toEqual([false, false, true]);
  expect([mayCollect(120_000), lost.list]).toEqual([true, []]);
});
