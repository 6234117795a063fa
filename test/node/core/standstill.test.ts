/** When a process stood still, by its looks at the clock. */
import { expect, test } from "vitest";
import { CLOCK_CHECK_MS, PauseDetector } from "../../../src/node/core/write-eligibility.ts";
import { at } from "../../fakes/registry.ts";

test("a longer time without a look was a standstill, apart from what a loop that runs may take; the first look tells nothing", () => {
  const standstill = new PauseDetector();
  const looks = [5000, CLOCK_CHECK_MS, 2 * CLOCK_CHECK_MS, 2 * CLOCK_CHECK_MS + 49, 2 * CLOCK_CHECK_MS + 50, CLOCK_CHECK_MS, 10_000];
  let nowMs = 0;
  expect(looks.map((afterMs) => standstill.looked(at((nowMs += afterMs))))).toEqual([
    undefined,
    undefined,
    undefined,
    undefined,
    50,
    undefined,
    10_000 - 2 * CLOCK_CHECK_MS,
  ]);
});
