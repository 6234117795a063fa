/** P3 with generated histories; `test/long` runs more of them. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { FILTERS } from "../fakes/stream.ts";
import { playWatches, turns } from "../fakes/watch-history.ts";

test("P3: at every END and bookmark the folded state is the query's answer, whatever happens in between", () => {
  const filters = fc.array(fc.nat(FILTERS.length - 1), { minLength: 3, maxLength: 3 });
  fc.assert(
    fc.property(turns(80), filters, (history, chosen) => {
      playWatches(history, chosen);
    }),
    { numRuns: 120 },
  );
  expect(FILTERS.length).toBeGreaterThan(10);
});
