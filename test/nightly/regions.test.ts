/** The larger goals of regions in virtual time: an idle link, a full mesh of 20 regions, ten minutes of churn; and worlds in which anything happens. Figures are printed. */
import { expect, test } from "vitest";
import { bytesInMesh, churnBytes, copiesInMesh, idleRate } from "../sim/regions/goals.ts";
import { runAnything } from "../sim/regions/random.ts";

test("3 regions of 2 clusters of 3 nodes: an idle border link costs at most 200 B/s", () => {
  const { links, bytesPerSecond } = idleRate(1);
  console.error("an idle border link:", bytesPerSecond, "B/s");
  expect(links).toBe(6);
  expect(bytesPerSecond).toBeLessThanOrEqual(200);
});

test("20 regions in full mesh: at most 3 copies of a change a region", () => {
  const { copies, missing } = copiesInMesh(1, 20);
  console.error("copies of a change a region:", copies);
  expect(missing).toEqual([]);
  expect(copies).toBeLessThanOrEqual(3);
});

test("20 regions in full mesh: twice the nodes, or endpoints of the same services, cost at most a tenth more bytes between regions", () => {
  const bytes = bytesInMesh(1, 20, 2, 4);
  const [ofNodes, ofEndpoints] = [bytesInMesh(1, 20, 4, 4) / bytes, bytesInMesh(1, 20, 2, 8) / bytes];
  console.error(
    "bytes in a mesh:",
    bytes,
    "with twice the nodes:",
    ofNodes.toFixed(3),
    "with twice the endpoints:",
    ofEndpoints.toFixed(3),
  );
  expect(bytes).toBeGreaterThan(0);
  expect(ofNodes).toBeLessThanOrEqual(1.1);
  expect(ofEndpoints).toBeLessThanOrEqual(1.1);
});

// An eighth of the size of the goal, which is harder: what idle links cost does not shrink with it.
test("a tenth of 12,000 endpoints joins or leaves a minute: at most 1 % of the bytes of the same changes as record frames", () => {
  const { bytes, asRecords } = churnBytes(1, { services: 120, endpoints: 12_000, minutes: 5 });
  console.error("churn:", bytes, "bytes between regions,", asRecords, "as record frames:", ((100 * bytes) / asRecords).toFixed(2), "%");
  expect(bytes / asRecords).toBeLessThanOrEqual(0.01);
});

test("whatever happens, in the end regions show what they export to each other", () => {
  const happened = new Set<string>();
  for (let seed = 1; seed <= 15; seed++) {
    const outcome = runAnything(seed);
    for (const kind of outcome.happened.keys()) happened.add(kind);
    expect({ seed, wrong: outcome.wrong }).toEqual({ seed, wrong: [] });
  }
  console.error("happened:", [...happened].toSorted().join(", "));
});
