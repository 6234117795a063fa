/** More of the generated histories that the unit tests play a few of. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { steps, take } from "../fakes/history.ts";
import { FabricComponent } from "../fakes/mesh.ts";
import { expectAsModel } from "../fakes/replica-check.ts";
import { WATCH_FILTERS } from "../fakes/stream.ts";
import { playWatches, turns } from "../fakes/watch-history.ts";

test("P5, P6: replicas are what a naive model says after 3,000 histories", () => {
  fc.assert(
    fc.property(steps({ max: 200 }), (history) => {
      const nodes = [new FabricComponent("n1"), new FabricComponent("n2"), new FabricComponent("n3")];
      for (const node of nodes) expectAsModel(node);
      history.forEach((step, n) => take(nodes, step, n));
      for (const node of nodes) expectAsModel(node);
    }),
    { numRuns: 3000 },
  );
}, 600_000);

test("P3: watches hold what the query says after 6,000 histories", () => {
  const filters = fc.array(fc.nat(WATCH_FILTERS.length - 1), { minLength: 3, maxLength: 3 });
  fc.assert(
    fc.property(turns(150), filters, (history, chosen) => {
      playWatches(history, chosen);
    }),
    { numRuns: 6000 },
  );
  expect(WATCH_FILTERS.length).toBeGreaterThan(10);
}, 600_000);
