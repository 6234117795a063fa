/** What refusals of requests say about bounds that are not those of the contract. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { ShardServiceApplyRequestSchema } from "../../gen/waymark/control/v1/shard_pb.js";
import { CatalogQueryRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PrewarmRequestSchema } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import { requestCheckOf } from "../../src/services/contract.ts";
import { BOUNDS } from "../fakes/options.ts";

const x = (length: number): string => "x".repeat(length);
const ANY_NODE = "(the highest limit that a node can configure)";

test.each([
  { what: "a name", init: { names: [x(1001)] }, says: `must be 1 to 1000 characters of [A-Za-z0-9._:/@+-] ${ANY_NODE}` },
  { what: "a cluster", init: { clusterId: x(257) }, says: `must be 1 to 256 characters of [A-Za-z0-9._:/@+-] ${ANY_NODE}` },
  { what: "a namespace", init: { namespace: `svc.${x(300)}` }, says: `at most 63 characters per label and 240 in total ${ANY_NODE}` },
  {
    what: "a version range, whose bound is the contract's",
    init: { versionRange: x(129) },
    says: "must have at most 128 characters, got 129",
  },
])("a read that asks for $what is held to what any node may store, and its refusal says so", ({ init, says }) => {
  const check = () => requestCheckOf(CatalogQueryRequestSchema)(create(CatalogQueryRequestSchema, init));
  expect(check).toThrow(says);
  if (!says.includes(ANY_NODE)) expect(check).not.toThrow(ANY_NODE);
});

test.each([
  { count: 0, says: "namespaces: is empty, but must have 1 to 1000 items" },
  { count: 1001, says: "namespaces: must have at most 1000 items, got 1001" },
])("a list of $count items that needs some is refused with its rule", ({ count, says }) => {
  const request = create(PrewarmRequestSchema, { namespaces: Array.from({ length: count }, () => "svc") });
  expect(() => requestCheckOf(PrewarmRequestSchema)(request)).toThrow(says);
});

test.each([
  { what: "a namespace", init: { namespace: `svc.${x(63)}.${x(63)}.${x(63)}.${x(9)}` }, says: "63 characters per label and 200 in total" },
  { what: "a service", init: { settings: { count: 1, service: x(129) } }, says: "settings.service: " },
  { what: "no count", init: { settings: { service: "worker" } }, says: "settings.count: is required: 1 to 10000" },
])("a set of shards with $what is held to the settings of the node, as a registration", ({ init, says }) => {
  const request = create(ShardServiceApplyRequestSchema, { namespace: "orders", settings: { count: 1, service: "worker" }, ...init });
  const check = () => requestCheckOf(ShardServiceApplyRequestSchema, BOUNDS)(request);
  expect(check).toThrow(says);
  expect(check).not.toThrow(ANY_NODE);
});
