import { expect, test } from "vitest";
import { activeWindow, nextEdge } from "../../../src/policy/set/cutover.ts";

const window = (startsWallMs: number, endsWallMs: number | undefined) => ({
  startsWallMs,
  endsWallMs,
  exportScopes: [],
  allowSummaries: undefined,
});

test("of windows that start together the later in the list is active", () => {
  const windows = [window(0, 10), window(0, 20)];
  expect(activeWindow(windows, 5)).toBe(windows[1]);
});

test("no window is active outside all of them", () => {
  expect(activeWindow([window(0, 10)], 10)).toBeUndefined();
  expect(activeWindow([], 0)).toBeUndefined();
});

test("edges are told in both directions, the nearest first", () => {
  const windows = [window(30, undefined), window(10, 20)];
  expect([0, 10, 20, 30].map((at) => nextEdge(windows, at))).toEqual([10, 20, 30, undefined]);
});
