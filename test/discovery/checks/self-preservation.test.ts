/** When a node doubts itself. */
import { expect, test } from "vitest";
import { DOUBT_MS, SelfPreservation } from "../../../src/discovery/checks/self-preservation.ts";

/** Asks as a step does, when a check is due. */
function mayTurn(doubt: SelfPreservation, checkCount: number, changingCount: number, monoMs: number): boolean {
  const evidence = { checkCount, changingCount };
  doubt.look(evidence, monoMs);
  return doubt.mayTurn(evidence, monoMs);
}

test.each([
  { checkCount: 9, changingCount: 9, doubts: false },
  { checkCount: 10, changingCount: 5, doubts: false },
  { checkCount: 10, changingCount: 6, doubts: true },
  { checkCount: 11, changingCount: 5, doubts: false },
  { checkCount: 11, changingCount: 6, doubts: true },
  { checkCount: 1000, changingCount: 501, doubts: true },
])("with $changingCount of $checkCount checks changing, the node doubts itself: $doubts", ({ checkCount, changingCount, doubts }) => {
  const doubt = new SelfPreservation();
  expect(mayTurn(doubt, checkCount, changingCount, 0)).toBe(!doubts);
  expect([doubt.isSelfPreserving, doubt.count]).toEqual([doubts, doubts ? 1 : 0]);
});

test("what turned within ten seconds counts with what sways", () => {
  const doubt = new SelfPreservation();
  for (const ms of [0, 5000, 10_000]) doubt.turned(ms);
  expect(mayTurn(doubt, 10, 3, 10_001)).toBe(true);
  doubt.turned(10_001);
  expect(mayTurn(doubt, 10, 3, 10_002)).toBe(false);
});

test("a doubt lasts thirty seconds, and what is due then turns, however much it is", () => {
  const doubt = new SelfPreservation();
  expect(mayTurn(doubt, 10, 10, 1000)).toBe(false);
  expect(doubt.untilMonoMs).toBe(1000 + DOUBT_MS);
  expect(mayTurn(doubt, 10, 1, 1000 + DOUBT_MS - 1)).toBe(false);
  expect(mayTurn(doubt, 10, 10, 1000 + DOUBT_MS)).toBe(true);
  expect([doubt.isSelfPreserving, doubt.untilMonoMs]).toEqual([false, Number.POSITIVE_INFINITY]);
});

test("the same fault is not doubted twice, and the next one is", () => {
  const doubt = new SelfPreservation();
  mayTurn(doubt, 10, 10, 0);
  expect(mayTurn(doubt, 10, 10, DOUBT_MS)).toBe(true);
  for (let i = 0; i < 8; i++) doubt.turned(DOUBT_MS);
  // Those that turned, and two that are still to turn.
  expect(mayTurn(doubt, 10, 2, DOUBT_MS + 5000)).toBe(true);
  // The ten have turned, and agree with it.
  doubt.look({ checkCount: 10, changingCount: 0 }, DOUBT_MS + 20_000);
  expect(mayTurn(doubt, 10, 10, DOUBT_MS + 20_001)).toBe(false);
  expect(doubt.count).toBe(2);
});
