import { expect, test } from "vitest";
import { MESH_METRICS } from "../../../src/lib/metrics/mesh-metrics.ts";
import { METRICS, Metrics } from "../../../src/lib/metrics/metrics.ts";

test("rows of the mesh are rows of the one table, and named as such", () => {
  expect(Object.keys(MESH_METRICS).filter((name) => !name.startsWith("mesh_"))).toEqual([]);
  expect(METRICS).toMatchObject(MESH_METRICS);
});

test.each(["hello", "records", "vector", "policy", "probe", "push_pull", "other"] as const)(
  "frames of kind %s are counted as that",
  (kind) => {
    const metrics = new Metrics();
    const labels = { direction: "sent", kind } as const;
    metrics.inc("mesh_link_frames_total", labels, 3);
    expect(metrics.counter("mesh_link_frames_total", labels)).toMatchObject({ labels, value: 3 });
  },
);
