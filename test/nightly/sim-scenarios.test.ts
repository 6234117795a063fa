/** The sizes of the goals in virtual time: 200 nodes. The hour is in quiet-hour.test.ts. Figures are printed. */
import { expect, test } from "vitest";
import { changesSpread, churn, crashesAreKnown, joinsAndLeavesSpread, partitionHeals, shapeConverges } from "../sim/scenarios.ts";

const MINUTES = 60_000;
const WORLD = { nodes: 200, loss: 0.1, seed: 7 };

test("200 nodes, 10 % loss: a change is at 95 % within 1 s and everywhere within 2 s", { timeout: 10 * MINUTES }, () => {
  const spread = changesSpread({ ...WORLD, changes: 40 });
  console.error("changes:", spread);
  expect(spread.p95Ms).toBeLessThanOrEqual(1000);
  expect(spread.maxMs).toBeLessThanOrEqual(2000);
});

test("200 nodes, 10 % loss: joins and leaves are known as fast", { timeout: 10 * MINUTES }, () => {
  const spread = joinsAndLeavesSpread({ ...WORLD, rounds: 4 });
  console.error("joins and leaves:", spread);
  expect(Math.max(spread.joinP95Ms, spread.leaveP95Ms)).toBeLessThanOrEqual(1000);
  expect(Math.max(spread.joinMaxMs, spread.leaveMaxMs)).toBeLessThanOrEqual(2000);
});

test("P9: 200 nodes, 10 % loss: a real death is known to all within 10 s", { timeout: 15 * MINUTES }, () => {
  const spread = crashesAreKnown({ ...WORLD, crashes: 4 });
  console.error("crashes:", spread);
  expect(spread.maxMs).toBeLessThanOrEqual(10_000);
});

// At 200 nodes and ten minutes it takes twenty minutes of a core.
test("two halves of 100 nodes, five minutes apart, are equal within two gossip intervals of being linked", {
  timeout: 30 * MINUTES,
}, () => {
  const healed = partitionHeals({ nodes: 100, minutes: 5, seed: 7 });
  console.error("apart:", healed);
  expect(healed.aliveWhileApart).toBe(50);
  expect(healed.equalAfterLinkedMs).toBeLessThanOrEqual(2000 + 1000);
  expect(healed.differencesApart).toBeGreaterThan(0);
  expect(healed.differences).toEqual([]);
  expect(healed.records, "two clients a node").toBe(200);
});

test.each([
  [8, 0],
  [20, 0],
  [50, 0],
  [8, 2],
  [20, 4],
  [50, 5],
])(
  "%i nodes with %i hubs (0: a star) find each other, and nobody departed is listed after churn",
  { timeout: 10 * MINUTES },
  (nodes, hubs) => {
    const shape = shapeConverges({ nodes, hubs, seed: 7 });
    console.error(`${nodes} nodes, ${hubs} hubs:`, shape);
    expect(shape.joinedMs).toBeLessThanOrEqual(30_000);
    expect(shape.listedAfterLeaveMs).toBeLessThanOrEqual(5000);
    expect(shape.deadKnownMs).toBeLessThanOrEqual(30_000);
  },
);

test("10 % a minute of 2,000 entries changes for five minutes: bounded memory, equal replicas, no gap in a watch", {
  timeout: 10 * MINUTES,
}, () => {
  const result = churn({ nodes: 5, entries: 2000, minutes: 5, seed: 7 });
  console.error("churn:", result);
  expect(result.isEqual).toBe(true);
  expect(result.tombstones).toBeLessThanOrEqual(result.tombstoneBound);
});
