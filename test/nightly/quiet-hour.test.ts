/** An hour of 200 nodes, in virtual time. It takes longer than all other scenarios together, so it has a file, and thereby a core, of its own. */
import { expect, test } from "vitest";
import { quietHour } from "../sim/scenarios.ts";

test("P8: 200 nodes, 10 % loss: nobody dies falsely in an hour, which takes at most ten minutes", { timeout: 60 * 60_000 }, () => {
  const quiet = quietHour({ nodes: 200, loss: 0.1, seed: 7, minutes: 60 });
  console.error("an hour:", quiet);
  expect(quiet.falseDeaths).toBe(0);
  expect(quiet.knowAll).toBe(true);
  // Of one core; the wall clock would tell of the neighbours.
  expect(quiet.cpuSeconds).toBeLessThanOrEqual(600);
});
