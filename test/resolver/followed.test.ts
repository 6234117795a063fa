/** P17 and the cursors of resolvers with generated histories: the streams of P3, which also read at resolvers and move between these and nodes. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { runs } from "../fakes/effort.ts";
import { Resolvers } from "../fakes/resolvers.ts";
import { WATCH_FILTERS } from "../fakes/stream.ts";
import { playWatches, turns } from "../fakes/watch-history.ts";

const filters = fc.array(fc.nat(WATCH_FILTERS.length - 1), { minLength: 3, maxLength: 3 });

test("P17: a resolver holds at its bookmarks what its upstream holds, and a stream that moves to or from it what a query there answers", () => {
  let placeCount = 0;
  fc.assert(
    fc.property(turns(80), filters, fc.constantFrom(undefined, 1, 12), (history, chosen, pastTouches) => {
      const resolvers = new Resolvers(pastTouches);
      playWatches(history, chosen, pastTouches, resolvers);
      placeCount += resolvers.placeCount;
    }),
    { numRuns: runs(200) },
  );
  expect(placeCount).toBeGreaterThan(1000);
});

test("so it is where few keys change all the time, and streams come and go with fresh cursors", () => {
  const busy = turns(80).map((history) =>
    history.map((turn) => {
      const { step, action, pick } = turn;
      const acts = pick % 2 === 0 ? (["farewell", "move"] as const) : (["drain", "move"] as const);
      return {
        ...turn,
        step: { ...step, key: step.key % 3 },
        action: action === "nothing" || action === "pull" ? acts[step.detail % 2]! : action,
      };
    }),
  );
  fc.assert(
    fc.property(busy, (history) => {
      playWatches(history, [0, 0, 5], undefined, new Resolvers(undefined));
    }),
    { numRuns: runs(300) },
  );
});
