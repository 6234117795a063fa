/** A few of the worlds in which anything happens, one of them in the gate; test/nightly/regions.test.ts runs more. */
import { expect, test } from "vitest";
import { sized } from "../../fakes/effort.ts";
import { runAnything } from "./random.ts";

test.each([12, 6, 8, 11, 24, 22, 300].slice(0, sized(7, 1)))(
  "whatever happens, in the end regions show what they export to each other: seed %i",
  (seed) => {
    const { wrong, happened } = runAnything(seed);
    expect(wrong).toEqual([]);
    expect(happened.size).toBeGreaterThan(0);
  },
);
