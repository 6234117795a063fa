/** When a node doubts itself. */
import { expect, test } from "vitest";
import { DOUBT_MS, SelfDoubt } from "../../../src/discovery/checks/self-doubt.ts";

/** Asks as a step does, when a check is due. */
function mayTurn(doubt: SelfDoubt, checkCount: number, swayingCount: number, monoMs: number): boolean {
  const evidence = { checkCount, swayingCount };
  doubt.look(evidence, monoMs);
  return doubt.mayTurn(evidence, monoMs);
}

test.each([
  { checkCount: 9, swayingCount: 9, doubts: false },
  { checkCount: 10, swayingCount: 5, doubts: false },
  { checkCount: 10, swayingCount: 6, doubts: true },
  { checkCount: 11, swayingCount: 5, doubts: false },
  { checkCount: 11, swayingCount: 6, doubts: true },
  { checkCount: 1000, swayingCount: 501, doubts: true },
])("with $swayingCount of $checkCount checks swaying, the node doubts itself: $doubts", ({ checkCount, swayingCount, doubts }) => {
  const doubt = new SelfDoubt();
  expect(mayTurn(doubt, checkCount, swayingCount, 0)).toBe(!doubts);
  expect([doubt.isDoubting, doubt.count]).toEqual([doubts, doubts ? 1 : 0]);
});

test("what turned within ten seconds counts with what sways", () => {
  const doubt = new SelfDoubt();
  for (const ms of [0, 5000, 10_000]) doubt.turned(ms);
  expect(mayTurn(doubt, 10, 3, 10_001)).toBe(true);
  doubt.turned(10_001);
  expect(mayTurn(doubt, 10, 3, 10_002)).toBe(false);
});

test("a doubt lasts thirty seconds, and what is due then turns, however much it is", () => {
  const doubt = new SelfDoubt();
  expect(mayTurn(doubt, 10, 10, 1000)).toBe(false);
  expect(doubt.untilMonoMs).toBe(1000 + DOUBT_MS);
  expect(mayTurn(doubt, 10, 1, 1000 + DOUBT_MS - 1)).toBe(false);
  expect(mayTurn(doubt, 10, 10, 1000 + DOUBT_MS)).toBe(true);
  expect([doubt.isDoubting, doubt.untilMonoMs]).toEqual([false, Number.POSITIVE_INFINITY]);
});

test("the same fault is not doubted twice, and the next one is", () => {
  const doubt = new SelfDoubt();
  mayTurn(doubt, 10, 10, 0);
  expect(mayTurn(doubt, 10, 10, DOUBT_MS)).toBe(true);
  for (let i = 0; i < 8; i++) doubt.turned(DOUBT_MS);
  // Those that turned, and two that are still to turn.
  expect(mayTurn(doubt, 10, 2, DOUBT_MS + 5000)).toBe(true);
  // The ten have turned, and agree with it.
  doubt.look({ checkCount: 10, swayingCount: 0 }, DOUBT_MS + 20_000);
  expect(mayTurn(doubt, 10, 10, DOUBT_MS + 20_001)).toBe(false);
  expect(doubt.count).toBe(2);
});
