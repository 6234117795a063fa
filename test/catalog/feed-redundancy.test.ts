/** What a watch is told in vain (semantics.md, Watch 2): measured over generated histories, on streams that never resume. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { runs } from "../fakes/effort.ts";
import { WATCH_FILTERS } from "../fakes/stream.ts";
import { playWatches, turns } from "../fakes/watch-history.ts";

test("of what streams without a resume are told, at most 2 % is the removal of a key they never had, and nothing is said twice", () => {
  const told = { count: 0, useless: 0, repeated: 0 };
  const filters = fc.array(fc.nat(WATCH_FILTERS.length - 1), { minLength: 3, maxLength: 3 });
  fc.assert(
    fc.property(turns(80, { isUnbroken: true }), filters, (history, chosen) => {
      for (const { toldCount, uselessCount, repeatedCount } of playWatches(history, chosen)) {
        told.count += toldCount;
        told.useless += uselessCount;
        told.repeated += repeatedCount;
      }
    }),
    { numRuns: runs(120) },
  );
  expect(told.count).toBeGreaterThan(runs(1000));
  expect(told.repeated).toBe(0);
  expect(told.useless / told.count).toBeLessThanOrEqual(0.02);
});
