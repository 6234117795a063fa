import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntrySchema, HealthStatus } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { addressesOf, parseServiceName } from "../../../src/client/grpc/addresses.ts";

const { HEALTHY, DEGRADED, MAINTENANCE, ORPHANED } = HealthStatus;
const HERE = { region: "r1", zone: "z1" };

function entry(host: string, health: HealthStatus, more: Omit<MessageInitShape<typeof EntrySchema>, "$typeName"> = {}) {
  return create(EntrySchema, Object.assign({ key: { instanceId: host }, health, ...HERE, targets: [{ host, port: 1 }] }, more));
}

test.each([
  { name: "the best tier only", all: [entry("a", DEGRADED), entry("b", HEALTHY)], is: ["b"] },
  { name: "the next tier when the best is empty", all: [entry("a", DEGRADED), entry("b", ORPHANED)], is: ["a"] },
  { name: "what nobody can reach before nothing", all: [entry("a", ORPHANED)], is: ["a"] },
  { name: "nothing in maintenance", all: [entry("a", MAINTENANCE)], is: [] },
  {
    name: "no target without a port",
    all: [
      entry("a", HEALTHY, {
        targets: [
          { host: "a", protocol: "grpc" },
          { host: "b", port: 1 },
        ],
      }),
    ],
    is: ["b"],
  },
  { name: "nothing without a target", all: [entry("a", HEALTHY, { targets: [] })], is: [] },
  {
    name: "the nearest first",
    all: [entry("c", HEALTHY, { region: "r2" }), entry("b", HEALTHY, { zone: "z2" }), entry("a", HEALTHY)],
    is: ["a", "b", "c"],
  },
])("the addresses of a name are $name", ({ all, is }) => {
  expect(addressesOf(all, HERE, () => 0).flatMap(({ addresses }) => addresses.map(({ host }) => host))).toEqual(is);
});

test.each(["", "tcp", "TCP", "h2", "h2c", "http2", "tls"])(
  "a channel calls a port of protocol '%s' when no port names gRPC",
  (protocol) => {
    const targets = [
      { host: "h", port: 1, protocol: "http" },
      { host: "h", port: 2, protocol },
    ];
    expect(addressesOf([entry("h", HEALTHY, { targets })], HERE, () => 0)[0]?.addresses).toEqual([{ host: "h", port: 2 }]);
  },
);

test("of the ports of an entry those that speak gRPC are taken, by priority, else those that say no protocol, and never others", () => {
  const targets = [
    { host: "h", port: 1, protocol: "http" },
    { host: "h", port: 2, protocol: "grpc", priority: 2 },
    { host: "h", port: 3, protocol: "grpcs", priority: 1 },
    { host: "h", port: 4, name: "grpc", priority: 1 },
    { host: "h", port: 5 },
  ];
  const ports = (of: typeof targets) =>
    addressesOf([entry("h", HEALTHY, { targets: of })], HERE, () => 0)[0]?.addresses.map(({ port }) => port);
  const [http, , , , silent] = targets;
  expect([targets, [http, silent], [http]].map((of) => ports(of.flatMap((one) => one ?? [])))).toEqual([[3, 4], [5], undefined]);
});

test("equally near entries are in the order of the channel", () => {
  const all = [entry("a", HEALTHY), entry("b", HEALTHY)];
  const order = (draw: (key: string) => number) => addressesOf(all, HERE, draw).map(({ addresses }) => addresses[0]?.host);
  expect([order((key) => (key === "a" ? 0 : 1)), order((key) => (key === "a" ? 1 : 0))]).toEqual([
    ["a", "b"],
    ["b", "a"],
  ]);
});

test.each([
  { path: "svc.market/web", is: { namespace: "svc.market", name: "web" } },
  { path: "web", is: undefined },
  { path: "svc/web/x", is: undefined },
  { path: "SVC/web", is: undefined },
])("the path $path names $is", ({ path, is }) => {
  expect(parseServiceName(path)).toEqual(is);
});

test("health and nearness come before the order of the channel", () => {
  const all = [entry("c", DEGRADED), entry("b", HEALTHY, { zone: "z2" }), entry("a", HEALTHY)];
  const draw = (key: string) => ["c", "b", "a"].indexOf(key);
  expect(addressesOf(all, HERE, draw).map(({ addresses }) => addresses[0]?.host)).toEqual(["a", "b"]);
});
