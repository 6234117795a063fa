/** A few of the worlds in which anything happens; test/nightly/regions.test.ts runs more. */
import { expect, test } from "vitest";
import { runAnything } from "./random.ts";

test.each([6, 8, 11, 12, 22, 24, 300])("whatever happens, in the end regions show what they export to each other: seed %i", (seed) => {
  const { wrong, happened } = runAnything(seed);
  expect(wrong).toEqual([]);
  expect(happened.size).toBeGreaterThan(0);
});
