/** What many nodes must reach, with figures (printed): short worlds here, the full sizes in test/nightly/sim-scenarios.test.ts. */
import { expect, test } from "vitest";
import {
  ageWhileCutOff,
  changesSpread,
  churn,
  crashesAreKnown,
  joinsAndLeavesSpread,
  partitionHeals,
  quietHour,
  shapeConverges,
} from "./scenarios.ts";

const TIMEOUT = { timeout: 300_000 };

test("40 nodes, 10 % loss: a change is at 95 % within 1 s and everywhere within 2 s; so are joins and leaves", TIMEOUT, () => {
  const change = changesSpread({ nodes: 40, loss: 0.1, changes: 30, seed: 7 });
  console.log("changes:", change);
  expect(change.p95Ms).toBeLessThanOrEqual(1000);
  expect(change.maxMs).toBeLessThanOrEqual(2000);
  const members = joinsAndLeavesSpread({ nodes: 40, loss: 0.1, rounds: 4, seed: 7 });
  console.log("joins and leaves:", members);
  expect(members.joinP95Ms).toBeLessThanOrEqual(1000);
  expect(members.leaveP95Ms).toBeLessThanOrEqual(1000);
  expect(Math.max(members.joinMaxMs, members.leaveMaxMs)).toBeLessThanOrEqual(2000);
});

test("P8 and P9: 40 nodes, 10 % loss: no false death in five minutes, a real one is known to all within 10 s", TIMEOUT, () => {
  const quiet = quietHour({ nodes: 40, loss: 0.1, minutes: 5, seed: 7 });
  console.log("quiet:", quiet);
  expect(quiet.falseDeaths).toBe(0);
  const crash = crashesAreKnown({ nodes: 40, loss: 0.1, crashes: 4, seed: 7 });
  console.log("crashes:", crash);
  expect(crash.maxMs).toBeLessThanOrEqual(10_000);
});

test("two halves of 20 that were apart for a minute are equal again soon after the links between them are", TIMEOUT, () => {
  const healed = partitionHeals({ nodes: 20, minutes: 1, seed: 7 });
  console.log("partition:", healed);
  expect(healed.equalAfterLinkedMs).toBeLessThanOrEqual(2000 + 1000);
  expect(healed.differencesApart).toBeGreaterThan(0);
  expect(healed.differences).toEqual([]);
  expect(healed.records, "two clients a node").toBe(40);
  expect(healed.membersMs).toBeLessThanOrEqual(20_000);
});

test("a node that is cut off says how old what it holds is, as long as it takes the others for members", TIMEOUT, () => {
  const cut = ageWhileCutOff({ nodes: 5, seed: 7 });
  console.log("cut off:", cut);
  expect(cut.before).toBe(0);
  // Silence of up to 4 s is no age: a peer in step speaks so often.
  expect(cut.lackedMs).toBeGreaterThan(5000);
  expect(cut.ageMs).toBeGreaterThan(4000);
  expect(cut.shortMs).toBeLessThanOrEqual(4000 + 100);
});

test.each([
  ["star", 8, 0],
  ["star", 20, 0],
  ["multi-hub", 20, 4],
] as const)("%s of %i nodes converges, and after churn nobody who left is listed", TIMEOUT, (_name, nodes, hubs) => {
  const shape = shapeConverges({ nodes, hubs, seed: 7 });
  console.log(`${nodes} nodes, ${hubs} hubs:`, shape);
  expect(shape.joinedMs).toBeLessThanOrEqual(30_000);
  expect(shape.listedAfterLeaveMs).toBeLessThanOrEqual(5000);
});

test("10 % a minute of a catalog changes for two minutes: memory is bounded, replicas are equal, no watch misses anything", TIMEOUT, () => {
  const result = churn({ nodes: 5, entries: 300, minutes: 2, seed: 7 });
  console.log("churn:", result);
  expect(result.isEqual).toBe(true);
  expect(result.tombstones).toBeLessThanOrEqual(result.tombstoneBound);
  expect(result.bookmarks).toBeGreaterThan(10);
});
