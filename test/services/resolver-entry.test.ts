import { expect, test } from "vitest";
import { type Entry, EntryKind, Scope } from "../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryStamper } from "../../src/catalog/entry/codec.ts";
import { findRoleNamespace } from "../../src/catalog/entry/rules.ts";
import { TraitsPool } from "../../src/catalog/record/traits.ts";
import { NO_POLICY, Policy } from "../../src/policy/set/verdict.ts";
import { nodeEntry } from "../../src/services/node-entry.ts";
import { namedPrefixes, resolverEntry } from "../../src/services/resolving/own-entry.ts";
import { BOUNDS } from "../fakes/options.ts";

const place = (port: number) => ({ host: "10.0.0.1", port });
const FACTS = {
  nodeId: "edge-1",
  zone: "z2",
  version: "1.2.3",
  followed: ["svc.shop", "svc.market"],
  listeners: { http: place(2), grpc: place(1), dns: place(3), fabric: place(4) },
};
const prefixes = (count: number, tail: string) => Array.from({ length: count }, (_, i) => `svc.n${i}${tail}`);

test("a resolver is a service under its id, with its own zone, where clients reach it, and what it follows", () => {
  expect(resolverEntry(FACTS)).toMatchObject({
    key: { kind: EntryKind.SERVICE, namespace: "discovery.resolvers", name: "edge-1", instanceId: "edge-1" },
    scope: Scope.ZONE,
    zone: "z2",
    targets: [
      { name: "grpc", protocol: "grpc", ...place(1) },
      { name: "http", protocol: "http", ...place(2) },
      { name: "dns", protocol: "udp", ...place(3) },
    ],
    metadata: { "waymark.version": "1.2.3", "waymark.resolver.namespaces": "svc.market,svc.shop", "waymark.resolver.namespace_count": "2" },
  });
  expect(resolverEntry({ ...FACTS, followed: [""], listeners: { grpc: place(1) } })).toMatchObject({
    targets: [{ name: "grpc" }],
    metadata: { "waymark.resolver.namespaces": "*" },
  });
});

test("listeners with TLS have TLS protocols, also in the URLs of nodes", () => {
  const tls = { host: "10.0.0.1", port: 1, isTls: true };
  const listeners = { grpc: tls, http: tls, dns: place(3), fabric: tls };
  const protocols = ({ targets }: Entry) => targets.map(({ protocol }) => protocol);
  const node = nodeEntry({ nodeId: "a", name: undefined, roles: [], resources: [], labels: {}, dnsZones: [], listeners });
  expect(protocols(resolverEntry({ ...FACTS, listeners }))).toEqual(["grpcs", "https", "udp"]);
  expect(protocols(node)).toEqual(["grpcs", "https", "udp", "grpcs"]);
  const advertisedUrls = ["grpcs://10.0.0.1:1", "https://10.0.0.1:1", "fabric://10.0.0.1:1"];
  expect(node.detail.value).toMatchObject({ advertisedUrls });
});

test.each([
  { followed: prefixes(40, ""), named: 32 },
  { followed: prefixes(10, `.${"x".repeat(60)}.${"y".repeat(60)}`), named: 7 },
])("of many prefixes the first are named, and all are counted, and a node takes the entry: $named", ({ followed, named }) => {
  const entry = resolverEntry({ ...FACTS, followed });
  const names = (entry.metadata["waymark.resolver.namespaces"] ?? "").split(",");
  expect([names.length, entry.metadata["waymark.resolver.namespace_count"]]).toEqual([named, String(followed.length)]);
  expect(followed).toEqual(expect.arrayContaining(names));
  const stamp = { nodeId: "a", clusterId: "c1", region: "r1", zone: "z1", tenantId: "", receivedWallMs: 1 };
  const { content, traits } = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(16) }).entryOf(entry, 0, stamp);
  expect([traits.zone, content.length < (findRoleNamespace("discovery.resolvers")?.maxEntryBytes ?? 0)]).toEqual(["z2", true]);
});

test("it names no prefix that policy hides from anybody, because everybody may read its entry", () => {
  const rule = { owners: [], exportScopes: [], allowSummaries: false, cutoverWindows: [], policyVersion: "", priority: 0 };
  const quota = { entries: 0, watches: 0, bytes: 0 };
  const rules = [
    { ...rule, quota, pattern: "svc.secret", visibility: [], visibilityTenants: ["blue"] },
    { ...rule, quota, pattern: "svc.ours", visibility: ["c1"], visibilityTenants: [] },
    { ...rule, quota, pattern: "svc.open", visibility: [], visibilityTenants: [] },
  ];
  const followed = ["", "svc.open", "svc.ours", "svc.secret", "svc.secret.deep", "other"];
  expect(namedPrefixes(followed, new Policy({ version: "v1", defaultAllow: true, rules }, 1))).toEqual(["", "svc.open", "other"]);
  expect(namedPrefixes(followed, new Policy({ version: "v1", defaultAllow: false, rules }, 1))).toEqual(["", "svc.open"]);
  expect(namedPrefixes(followed, NO_POLICY)).toEqual(followed);
});
