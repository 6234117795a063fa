import { expect, test } from "vitest";
import { loadBand } from "../../src/discovery/loads.ts";

const IDLE = { activeClients: 0, errorRate: 0, latencyMs: 0, utilization: 0, observedWallMs: 0 };

test.each([
  { a: { utilization: 0.24 }, b: { utilization: 0 }, isSame: true },
  { a: { utilization: 0.25 }, b: { utilization: 0.24 }, isSame: false },
  { a: { utilization: 1 }, b: { utilization: 0.75 }, isSame: true },
  { a: { latencyMs: 0.5 }, b: { latencyMs: 0 }, isSame: true },
  { a: { latencyMs: 1 }, b: { latencyMs: 0.5 }, isSame: false },
  { a: { latencyMs: 3 }, b: { latencyMs: 2 }, isSame: true },
  { a: { latencyMs: 4 }, b: { latencyMs: 3 }, isSame: false },
  { a: { activeClients: 9, errorRate: 1 }, b: {}, isSame: true },
])("quarters of utilisation and powers of two of latency: $a and $b in one band: $isSame", ({ a, b, isSame }) => {
  expect(loadBand({ ...IDLE, ...a }) === loadBand({ ...IDLE, ...b })).toBe(isSame);
});
