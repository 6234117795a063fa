/** What refusals of requests say about bounds that are not those of the contract. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { CatalogQueryRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { PrewarmRequestSchema } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import { requestCheckOf } from "../../src/services/contract.ts";

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
