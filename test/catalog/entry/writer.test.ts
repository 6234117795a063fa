import { expect, test } from "vitest";
import { loadViewOf, MAX_TAIL_BYTES, writeTail } from "../../../src/catalog/entry/writer.ts";

const LOAD = { activeClients: 4_000_000_000, errorRate: 1, latencyMs: 1e9, utilization: 1, observedWallMs: 253_402_300_799_999 };

test("load and times of the greatest values fit the room that is kept for them", () => {
  const out = new Uint8Array(1024);
  const end = writeTail(out, 0, { registeredWallMs: LOAD.observedWallMs, updatedWallMs: LOAD.observedWallMs, load: LOAD });
  expect(end).toBeLessThanOrEqual(MAX_TAIL_BYTES);
});

test("a load report that does not say when it was measured counts from when it came", () => {
  const report = { activeClients: 1, errorRate: 0, latencyMs: 2, utilization: 0.5, observedAt: undefined };
  expect(loadViewOf(report, 1234).observedWallMs).toBe(1234);
});
