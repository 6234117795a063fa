/** What each rpc asks of its caller: every one of ours declares it, and the check is the same for all. */
import { readFileSync } from "node:fs";
import { create, createFileRegistry, fromBinary, type Message } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../../gen/grpc/reflection/v1/reflection_pb.js";
import { ExplainRequestSchema, PolicyService } from "../../gen/waymark/policy/v1/policy_pb.js";
import { invalid, type WaymarkError } from "../../src/lib/errors.ts";
import { anonymousCaller, type Caller } from "../../src/policy/identity/caller.ts";
import { authorise, requiredAccessOf } from "../../src/services/contract.ts";

const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync("gen/descriptors.binpb")));
const ours = [...registry].flatMap((desc) => (desc.kind === "service" && desc.typeName.startsWith("waymark.") ? desc.methods : []));

test("every rpc of ours says what it needs, with a role that there is", () => {
  expect(ours.length).toBeGreaterThan(25);
  for (const method of ours) expect(() => requiredAccessOf(method)).not.toThrow();
});

test("an rpc that says nothing stops the start", () => {
  const silent = { ...Health.method.check, parent: { ...Health, typeName: "waymark.health.v1.Health" } };
  expect(() => requiredAccessOf(silent)).toThrow("rpc has no access option in its proto");
});

test("rpcs of health and reflection, whose protos are not ours, need no role, and health is for everybody", () => {
  const needs = [Health.method.check, Health.method.watch, ServerReflection.method.serverReflectionInfo].map(requiredAccessOf);
  expect(needs.map(({ role, isForEverybody }) => [role, isForEverybody])).toEqual([
    [undefined, true],
    [undefined, true],
    [undefined, false],
  ]);
});

/** Those that need no role: what every client of the catalog does. A new one in this list is a decision, not an oversight. */
const OPEN = [
  "Register",
  "Renew",
  "KeepAlive",
  "Unregister",
  "CatalogQuery",
  "CatalogWatch",
  "Resolve",
  "ClusterMap",
  "ListPeers",
  "SummaryQuery",
  "SummaryWatch",
  "NamespaceStatus",
  "ServerInfo",
  "SetMaintenance",
].map((name) => `waymark.discovery.v1.DiscoveryService/${name}`);

test("only the catalog's own rpcs, the names and shards in it, campaigns in a namespace, the cache's reads and the fabric need no role", () => {
  const open = ours
    .filter((method) => requiredAccessOf(method).role === undefined)
    .map((method) => `${method.parent.typeName}/${method.name}`);
  const names = ["RegisterName", "UnregisterName", "ListNames", "DescribeName", "ResolveName"].map(
    (name) => `waymark.dns.v1.DnsService/${name}`,
  );
  const fabric = open.filter((rpc) => /^waymark\.(?:fabric\.|control\.v1\.JoinService)/.test(rpc));
  const programs = ["waymark.control.v1.LeadershipService/Campaign", "waymark.resolver.v1.ResolverService/Resolve"];
  const shards = ["Attach", "Diff", "Get", "History", "List", "Watch"].map((name) => `waymark.control.v1.ShardService/${name}`);
  expect(open.toSorted()).toEqual([...OPEN, ...names, ...shards, ...fabric, ...programs].toSorted());
});

function caller(roles: readonly string[], isAuthenticated = true): Caller {
  return { ...anonymousCaller("local", "192.0.2.7", roles), isAuthenticated };
}

const market = create(ExplainRequestSchema, { namespace: "svc.market" });
const unread = invalid("request", "not the bytes of a request");

interface Case {
  readonly rpc: "explain" | "applyPolicy" | "rollbackPolicy" | "policyStatus";
  readonly who: Caller;
  readonly request: Message | WaymarkError | undefined;
  readonly want: string;
}

test.each<Case>([
  { rpc: "explain", who: caller(["mesh.read"]), request: market, want: "allowed" },
  { rpc: "explain", who: caller(["mesh.admin"]), request: unread, want: "allowed" },
  { rpc: "explain", who: caller(["owner:svc.market"]), request: market, want: "allowed" },
  { rpc: "explain", who: caller(["owner:svc"]), request: market, want: "allowed" },
  { rpc: "explain", who: caller(["owner:svc.market.eu"]), request: market, want: "discovery_access_denied" },
  { rpc: "explain", who: caller(["owner:svc.market"]), request: create(ExplainRequestSchema, {}), want: "discovery_access_denied" },
  { rpc: "explain", who: caller(["owner:svc.market"]), request: unread, want: "discovery_access_denied" },
  { rpc: "explain", who: caller(["owner:svc.market"]), request: undefined, want: "discovery_access_denied" },
  { rpc: "explain", who: caller([], false), request: market, want: "unauthenticated" },
  { rpc: "explain", who: caller(["mesh.admin"], false), request: market, want: "allowed" },
  { rpc: "applyPolicy", who: caller(["mesh.admin"]), request: undefined, want: "allowed" },
  { rpc: "applyPolicy", who: caller(["mesh.operate"]), request: undefined, want: "discovery_access_denied" },
  // Whose rules it touches the handler decides, which knows what is in force.
  { rpc: "applyPolicy", who: caller(["owner:svc"]), request: undefined, want: "allowed" },
  { rpc: "applyPolicy", who: caller(["owner:"]), request: undefined, want: "discovery_access_denied" },
  { rpc: "rollbackPolicy", who: caller(["owner:svc"]), request: undefined, want: "allowed" },
  { rpc: "policyStatus", who: caller(["owner:svc"]), request: undefined, want: "discovery_access_denied" },
  { rpc: "applyPolicy", who: caller([], false), request: undefined, want: "unauthenticated" },
])("$rpc by $who.roles: $want", ({ rpc, who, request, want }) => {
  const requiredAccess = requiredAccessOf(PolicyService.method[rpc]);
  if (want === "allowed") expect(() => authorise(requiredAccess, who, request)).not.toThrow();
  else expect(() => authorise(requiredAccess, who, request)).toThrow(want);
});
