/** Goals of regions with real node machines in virtual time; the larger ones are in test/nightly/regions.test.ts. */
import { expect, test } from "vitest";
import { sized } from "../../fakes/effort.ts";
import { afterTimeApart, bytesOfChanges, TIMES, timesUntilSeen, timesUntilTakenBack } from "./goals.ts";

/** Of each cluster. */
const NODES = sized(3, 2);

test(`3 regions of 2 clusters of ${NODES} nodes, 80 ms apart: each change is seen by the last node within its bound`, () => {
  const times = timesUntilSeen(1, NODES);
  const { holdDownMs, exportIntervalMs } = TIMES;
  const bounds = { new: 1000, band: 1000, "band again": holdDownMs + 1000, gone: 1000, back: holdDownMs + 1000, count: 1000 };
  const all = Object.entries({ ...bounds, "count again": exportIntervalMs + 1000 });
  const late = all.filter(([name, boundMs]) => (times.get(name) ?? Number.POSITIVE_INFINITY) > boundMs);
  expect(late.map(([name, boundMs]) => `${name}: ${times.get(name)} ms, not ${boundMs}`)).toEqual([]);
});

test(`3 regions of 2 clusters of ${NODES} nodes, 80 ms apart: a window's end and a rollback are gone everywhere within a second`, () => {
  const { windowMs, rollbackMs } = timesUntilTakenBack(1, NODES);
  expect(windowMs).toBeLessThanOrEqual(1000);
  expect(rollbackMs).toBeLessThanOrEqual(1000);
});

test("after 10 minutes apart one summary crosses for each changed service, and all is equal within 5 s", () => {
  const { summaries, equalAfterMs } = afterTimeApart(1, 50);
  expect(summaries).toBe(50);
  expect(equalAfterMs).toBeLessThanOrEqual(5000);
});

const ROUNDS = sized(8, 3);
const bytes = bytesOfChanges(1, ROUNDS, 2, 4);

test.each([
  { what: "nodes", nodes: 4, endpoints: 4 },
  { what: "endpoints of the same services", nodes: 2, endpoints: 8 },
])("twice the $what cost no more than a tenth more bytes between regions", ({ nodes, endpoints }) => {
  expect(bytes).toBeGreaterThan(0);
  expect(bytesOfChanges(1, ROUNDS, nodes, endpoints) / bytes).toBeLessThanOrEqual(1.1);
});
