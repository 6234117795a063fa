import { expect, test } from "vitest";
import type { Stage } from "../../../src/policy/versions/facts.ts";
import { checkStage, isStaged } from "../../../src/policy/versions/stage.ts";

const NODE = { nodeId: "n1", clusterId: "eu-1" };

test.each<{ stage: Stage | undefined; want: boolean }>([
  { stage: undefined, want: true },
  { stage: { by: "clusters", clusterIds: ["us-1", "eu-1"] }, want: true },
  { stage: { by: "clusters", clusterIds: ["us-1"] }, want: false },
  { stage: { by: "percent", percent: 100 }, want: true },
])("whether a stage has the node in it: $stage is $want", ({ stage, want }) => {
  expect(isStaged({ stage, checksum: "00" }, NODE)).toBe(want);
});

test("a share goes by node and content: a wider one of the same rules keeps the nodes it had, other rules take others", () => {
  const takenBy = (percent: number, checksum: string) =>
    Array.from({ length: 500 }, (_, i) => `n${i}`).filter((nodeId) =>
      isStaged({ stage: { by: "percent", percent }, checksum }, { ...NODE, nodeId }),
    );
  const [ten, half, other] = [takenBy(10, "00"), takenBy(50, "00"), takenBy(10, "01")];
  expect(ten.length).toBeGreaterThan(25);
  expect(ten.length).toBeLessThan(80);
  expect(ten.every((nodeId) => half.includes(nodeId))).toBe(true);
  expect(other).not.toEqual(ten);
});

test.each<{ stage: Stage; says: string }>([
  { stage: { by: "percent", percent: 0 }, says: "stage.percent: 0 must be 1 to 100" },
  { stage: { by: "percent", percent: 1.5 }, says: "stage.percent: 1.5" },
  { stage: { by: "clusters", clusterIds: [] }, says: "stage.clusters.cluster_ids" },
])("a stage that reaches nobody is refused: $says", ({ stage, says }) => {
  expect(() => checkStage(stage)).toThrow(says);
  expect(() => checkStage(undefined)).not.toThrow();
});
