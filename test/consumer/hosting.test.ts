import { expect, test } from "vitest";
import { advertisedTarget, hostOf, hostTargets, isCalledAtNode } from "../../src/consumer/hosting.ts";

const [SERVICE, FUNCTION, QUEUE] = [1, 2, 4];
const [HEALTHY, MAINTENANCE] = [1, 4] as const;
const hosted = { key: { kind: FUNCTION, clusterId: "eu" }, health: HEALTHY, targets: [], nodeId: "n1" };
const nodeOf = (clusterId: string, health: typeof HEALTHY | typeof MAINTENANCE = HEALTHY) => ({
  key: { clusterId },
  health,
  detail: { case: "node", value: { advertisedUrls: ["grpc://10.0.0.1:7420", "fabric://10.0.0.1:7421", "http://[::1]:80", "tcp://host"] } },
});

test.each([
  { what: "a function without a target", entry: hosted, isCalled: true },
  { what: "a queue without a target", entry: { ...hosted, key: { kind: QUEUE, clusterId: "eu" } }, isCalled: true },
  { what: "a service without a target", entry: { ...hosted, key: { kind: SERVICE, clusterId: "eu" } }, isCalled: false },
  { what: "a function with a target", entry: { ...hosted, targets: [{}] }, isCalled: false },
  { what: "a function without a node", entry: { ...hosted, nodeId: "" }, isCalled: false },
  { what: "a function in MAINTENANCE", entry: { ...hosted, health: MAINTENANCE }, isCalled: false },
])("$what is called at its node: $isCalled", ({ entry, isCalled }) => {
  expect(isCalledAtNode(entry)).toBe(isCalled);
});

test("the node is that of the same cluster, and none in MAINTENANCE; its endpoints are those with a port, without the fabric's", () => {
  const [us, eu] = [nodeOf("us"), nodeOf("eu")];
  expect(hostOf(hosted, [us, eu])).toBe(eu);
  expect(hostOf(hosted, [us, nodeOf("eu", MAINTENANCE)])).toBeUndefined();
  expect(hostTargets(eu.detail).map(({ protocol, host, port }) => `${protocol} ${host} ${port}`)).toEqual([
    "grpc 10.0.0.1 7420",
    "http ::1 80",
  ]);
  expect(hostTargets({})).toEqual([]);
  expect(advertisedTarget("http://")).toBeUndefined();
});
