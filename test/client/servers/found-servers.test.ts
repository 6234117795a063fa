import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { nodesFor, resolversFor } from "../../../src/client/servers/server-list.ts";

const NODE = { region: "r1", zone: "z1", targets: [{ name: "grpc", host: "10.0.0.1", port: 1 }] };
const entries = (...all: readonly Omit<MessageInitShape<typeof EntrySchema>, "$typeName">[]) =>
  all.map((one) => create(EntrySchema, Object.assign({}, NODE, one)));

test.each([
  {
    name: "all nodes when none is an ingress",
    all: entries({}, { targets: [{ name: "grpc", host: "fd00::1", port: 2 }] }),
    is: ["10.0.0.1:1", "[fd00::1]:2"],
  },
  {
    name: "only ingress nodes when there are some",
    all: entries({}, { capabilities: ["ingress"], targets: [{ name: "grpc", host: "in", port: 3 }] }),
    is: ["in:3"],
  },
  {
    name: "no node without a gRPC address",
    all: entries({ targets: [{ name: "http", host: "10.0.0.1", port: 1 }] }, { targets: [] }),
    is: [],
  },
  { name: "no address that nobody can connect to", all: entries({ targets: [{ name: "grpc", host: "a b", port: 1 }] }), is: [] },
])("of a cluster map are taken: $name", ({ all, is }) => {
  expect(nodesFor(all).map(({ server }) => server)).toEqual(is);
});

test("of the entries of resolvers are taken those with a gRPC address, under any name", () => {
  const all = entries(
    { targets: [{ name: "", host: "r1", port: 1, protocol: "grpc" }] },
    { targets: [{ name: "dns", host: "r2", port: 1 }] },
  );
  expect(resolversFor(all)).toEqual([{ server: "r1:1", region: "r1", zone: "z1", load: 0.5, kind: "resolver" }]);
});
