/** P17 and the cursors of resolvers with generated histories: the streams of P3, which also read at resolvers and move between these and nodes. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { runs } from "../fakes/effort.ts";
import { Resolvers } from "../fakes/resolvers.ts";
import { WATCH_FILTERS } from "../fakes/stream.ts";
import { playWatches, turns } from "../fakes/watch-history.ts";

test("P17: a resolver holds at its bookmarks what its upstream holds, and a stream that moves to or from it what a query there answers", () => {
  const filters = fc.array(fc.nat(WATCH_FILTERS.length - 1), { minLength: 3, maxLength: 3 });
  let readyCount = 0;
  fc.assert(
    fc.property(turns(80), filters, fc.constantFrom(undefined, 1, 12), (history, chosen, pastTouches) => {
      const resolvers = new Resolvers(pastTouches);
      playWatches(history, chosen, pastTouches, resolvers);
      readyCount += resolvers.readyCount;
    }),
    { numRuns: runs(200) },
  );
  expect(readyCount).toBeGreaterThan(1000);
});
