/** How much of an origin is held: its number, and up to where all is as the origin had it there. */
import { expect, test } from "vitest";
import { holdAbove, isFirm, moveThrough, type Origin, settledOf } from "../../../src/catalog/record/stored-record.ts";
import { OriginTable } from "../../../src/catalog/replica/origins.ts";

function origin(through: number): Origin {
  const made = new OriginTable().take("a", 1, undefined);
  made.through = through;
  return made;
}

function stateOf({ through, unsettled }: Origin): readonly (number | undefined)[] {
  return [through, unsettled?.from, unsettled?.until];
}

test("a frame that was cut leaves its origin settled where it was, until all that its sender knew has come", () => {
  const a = origin(10);
  moveThrough(a, 12, 20);
  expect([stateOf(a), settledOf(a)]).toEqual([[12, 10, 20], 10]);
  // The second sender knows less than the first: what the first knew is still to come.
  moveThrough(a, 15, 16);
  expect(stateOf(a)).toEqual([15, 10, 20]);
  moveThrough(a, 19, 19);
  expect([stateOf(a), settledOf(a)]).toEqual([[19, 10, 20], 10]);
  moveThrough(a, 20, 20);
  expect([stateOf(a), settledOf(a)]).toEqual([[20, undefined, undefined], 20]);
});

test("a number that is not above the one held moves nothing", () => {
  const a = origin(10);
  for (const through of [9, 10]) moveThrough(a, through, 30);
  expect(stateOf(a)).toEqual([10, undefined, undefined]);
});

test("records above the number, of a whole transfer, leave it settled where it was; one that brings nothing more does not", () => {
  const a = origin(10);
  holdAbove(a, 10);
  expect(stateOf(a)).toEqual([10, undefined, undefined]);
  holdAbove(a, 11);
  expect([stateOf(a), settledOf(a)]).toEqual([[10, 10, 11], 10]);
  holdAbove(a, 30);
  holdAbove(a, 20);
  expect(stateOf(a)).toEqual([10, 10, 30]);
  moveThrough(a, 29, 0);
  expect([stateOf(a), settledOf(a)]).toEqual([[29, 10, 30], 10]);
});

test("what is held may be taken for the origin's when nothing is cut off or refused, or the origin is gone and no more will come", () => {
  const whole = origin(10);
  const cut = origin(10);
  moveThrough(cut, 12, 20);
  const orphan: Origin = Object.assign(origin(10), { life: "orphaned" as const });
  moveThrough(orphan, 12, 20);
  const partial = origin(10);
  partial.lacks = { count: 1, why: "too long" };
  expect([whole, cut, orphan, partial].map(isFirm)).toEqual([true, false, true, false]);
});

test("an origin that is gone is not to be taken for its own while what a whole transfer did not list is being withdrawn", () => {
  const gone = origin(10);
  gone.life = "hidden";
  expect(isFirm(gone)).toBe(true);
  gone.closing = { reached: 12, knownSeq: 12, floor: 0 };
  expect(isFirm(gone)).toBe(false);
});
