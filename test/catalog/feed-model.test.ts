/** P3 with generated histories; `test/long` runs more of them. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { runs, sized } from "../fakes/effort.ts";
import { V2 } from "../fakes/mesh.ts";
import { FILTERS, WATCH_FILTERS } from "../fakes/stream.ts";
import { playWatches, turns } from "../fakes/watch-history.ts";

test("P3: at every END and bookmark the folded state is the query's answer, whatever happens in between", () => {
  const filters = fc.array(fc.nat(WATCH_FILTERS.length - 1), { minLength: 3, maxLength: 3 });
  fc.assert(
    fc.property(turns(80), filters, fc.constantFrom(undefined, 1, 12), (history, chosen, pastTouches) => {
      playWatches(history, chosen, pastTouches);
    }),
    { numRuns: runs(200) },
  );
  expect(WATCH_FILTERS.length).toBeGreaterThan(10);
});

test("P3 of version ranges: so it is where hardly anything but versions changes", () => {
  const byVersion = turns(80).map((history) =>
    history.map((turn) => {
      const { step } = turn;
      const variant = step.detail % 2 === 0 ? 0 : V2;
      const detail = step.kind === "put" ? Math.floor(step.detail / 8) * (V2 + 1) + variant : step.detail;
      // Functions are every other pair of keys.
      return { ...turn, step: { ...step, detail, key: step.key | 2 } };
    }),
  );
  const ranges = fc.array(fc.integer({ min: FILTERS.length, max: WATCH_FILTERS.length - 1 }), { minLength: 3, maxLength: 3 });
  fc.assert(
    fc.property(byVersion, ranges, fc.constantFrom(undefined, 1, 12), (history, chosen, pastTouches) => {
      playWatches(history, chosen, pastTouches);
    }),
    { numRuns: sized(1000, 60) },
  );
});
