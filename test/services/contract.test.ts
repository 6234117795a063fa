/** What the options of the rpcs say of limits, and how it is read. */
import { create, type DescService } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { LeadershipService } from "../../gen/waymark/control/v1/leadership_pb.js";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { CatalogQueryRequestSchema, DiscoveryService, RegisterRequestSchema } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService } from "../../gen/waymark/dns/v1/dns_pb.js";
import { FabricService } from "../../gen/waymark/fabric/v1/fabric_pb.js";
import { PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { ResolverService } from "../../gen/waymark/resolver/v1/resolver_pb.js";
import { costOf, namespacesOf } from "../../src/services/contract.ts";

function costs(service: DescService): Record<string, string[]> {
  const found: Record<string, string[]> = { read: [], write: [], none: [] };
  for (const method of service.methods) found[costOf(method) ?? "none"]?.push(method.name);
  return found;
}

// The proto of a new rpc must name its cost (test/contract/protos.test.ts), so that a new rpc need not be listed here.
test.each<{ service: DescService; want: Record<string, string[]> }>([
  {
    service: DiscoveryService,
    want: {
      read: ["CatalogQuery", "CatalogWatch", "Resolve", "ClusterMap", "ListPeers", "SummaryQuery", "SummaryWatch", "NamespaceStatus"],
      write: ["Register", "SetMaintenance", "Unregister"],
      none: ["Renew", "KeepAlive", "ServerInfo"],
    },
  },
  {
    service: PolicyService,
    want: {
      read: [
        "ValidatePolicy",
        "ExportPolicy",
        "PolicyStatus",
        "PolicyHistory",
        "Explain",
        "PolicyAudit",
        "AccessAudit",
        "VerifyAudit",
        "WatchPolicy",
      ],
      write: ["ApplyPolicy", "RollbackPolicy"],
      none: [],
    },
  },
  {
    service: DnsService,
    want: { read: ["ListNames", "DescribeName", "ResolveName"], write: ["RegisterName", "UnregisterName"], none: [] },
  },
  { service: ResolverService, want: { read: ["Resolve", "CacheStats"], write: ["Resync", "Prewarm", "Evict"], none: [] } },
  { service: PeerService, want: { read: ["List", "Watch", "Get", "Lag", "Keys"], write: [], none: [] } },
  { service: LeadershipService, want: { read: ["List", "Subscribe"], write: ["Resign", "RaiseStoreEpoch"], none: [] } },
  { service: FabricService, want: { read: [], write: [], none: ["Link", "Maintain", "Probe", "ProbeIndirect", "PushPull"] } },
])("what each rpc of $service.name takes a token for", ({ service, want }) => {
  const found = costs(service);
  for (const kind of ["read", "write", "none"]) expect(found[kind]).toEqual(expect.arrayContaining(want[kind] ?? []));
});

test("the namespaces of a request are those of the first path of the option that holds any", () => {
  const { catalogQuery, register, renew } = DiscoveryService.method;
  const asked = (fields: object) => namespacesOf(catalogQuery)?.(create(CatalogQueryRequestSchema, fields));
  expect(asked({ namespace: "svc.a", namespacePrefix: "svc" })).toEqual(["svc.a"]);
  expect(asked({ namespacePrefix: "svc" })).toEqual(["svc"]);
  expect(asked({})).toEqual([]);
  const entries = [{ key: { namespace: "a" } }, {}, { key: { namespace: "" } }, { key: { namespace: "b" } }, { key: { namespace: "a" } }];
  expect(namespacesOf(register)?.(create(RegisterRequestSchema, { entries }))).toEqual(["a", "b", "a"]);
  expect(namespacesOf(renew)).toBeUndefined();
});
