import { expect, test } from "vitest";
import { Collecting } from "../../src/fabric/collecting.ts";

const TOGETHER = { isInStep: true, isAnybodyAway: false };
const at = (monoMs: number) => ({ monoMs, wallMs: 0 });

test("P6: old tombstones go when everybody has been in reach for 30 s", () => {
  const collecting = new Collecting();
  expect([1000, 15_000, 30_999, 31_000].map((ms) => collecting.mayCollect(TOGETHER, at(ms)))).toEqual([false, false, false, true]);
});

test.each([
  ["not ready, or out of step with somebody", { isInStep: false }],
  ["without somebody", { isAnybodyAway: true }],
])("P6: a node that is %s keeps them, and the time begins anew", (_what, apart) => {
  const collecting = new Collecting();
  collecting.mayCollect(TOGETHER, at(0));
  expect(collecting.mayCollect({ ...TOGETHER, ...apart }, at(40_000))).toBe(false);
  expect([40_001, 70_000, 70_001].map((ms) => collecting.mayCollect(TOGETHER, at(ms)))).toEqual([false, false, true]);
});

test("a node whose clock is off keeps them until it is right again: some that end what is yet to come look old to it", () => {
  const collecting = new Collecting();
  const off = { ...TOGETHER, isClockOff: true };
  expect([0, 40_000].map((ms) => collecting.mayCollect(off, at(ms)))).toEqual([false, false]);
  expect(collecting.mayCollect(TOGETHER, at(40_001))).toBe(true);
});
