import { expect, test } from "vitest";
import { LOOK_MS, PatientClock } from "../../src/lib/patience.ts";

/** Looked at as a running loop does, from one time to another. */
function run(clock: PatientClock, fromMs: number, toMs: number): void {
  for (let monoMs = fromMs; monoMs <= toMs; monoMs += LOOK_MS) clock.skippedMs(monoMs);
}

test("a loop that runs skips nothing, also when it is a little late", () => {
  const clock = new PatientClock();
  run(clock, 5_000, 9_000);
  expect([clock.skippedMs(9_000), clock.skippedMs(9_250), clock.isJustAwake]).toEqual([0, 0, false]);
});

test.each([300, 2_000, 31_500, 86_400_000])("a standstill of %i ms counts nothing at first, and 250 ms in the end", (lengthMs) => {
  const clock = new PatientClock();
  run(clock, 0, 1_000);
  const wokeMs = 1_000 + lengthMs;
  expect([clock.skippedMs(wokeMs), clock.isJustAwake]).toEqual([lengthMs, true]);
  run(clock, wokeMs, wokeMs + 200);
  expect(clock.skippedMs(wokeMs + 249)).toBe(lengthMs);
  expect([clock.skippedMs(wokeMs + 250), clock.isJustAwake]).toEqual([lengthMs - 250, false]);
  run(clock, wokeMs + 250, wokeMs + 9_000);
  expect(clock.skippedMs(wokeMs + 9_000)).toBe(lengthMs - 250);
});

test("where every look is late time goes on all the same, 250 ms a look", () => {
  const clock = new PatientClock();
  const read = (monoMs: number) => monoMs - clock.skippedMs(monoMs);
  const times = [0, 1_000, 2_000, 3_000, 4_000].map(read);
  expect(times).toEqual([0, 0, 250, 500, 750]);
});

test("a time before the last look changes nothing", () => {
  const clock = new PatientClock();
  clock.skippedMs(1_000);
  expect([clock.skippedMs(500), clock.skippedMs(1_200)]).toEqual([0, 0]);
});
