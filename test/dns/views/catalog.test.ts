/** The catalog as DNS reads it: what policy hides from an anonymous caller, and what of it each answer reports. */
import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { EntryStamper } from "../../../src/catalog/entry/codec.ts";
import { KIND } from "../../../src/catalog/record/record.ts";
import { TraitsPool } from "../../../src/catalog/record/traits.ts";
import { DnsNames } from "../../../src/discovery/dns-names.ts";
import { Reads } from "../../../src/discovery/reads.ts";
import { dnsCatalog } from "../../../src/dns/views/catalog.ts";
import { NO_POLICY, Policy } from "../../../src/policy/set/verdict.ts";
import { entryView } from "../../fakes/dns-catalog.ts";
import { BOUNDS } from "../../fakes/options.ts";
import { rule, set } from "../../fakes/policies.ts";
import { at, draftAt, Registry, WALL } from "../../fakes/registry.ts";

const NODE = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b1" };
/** Only the tenant blue sees `svc`, and a caller of DNS has no tenant. */
const HIDING = new Policy(set([rule("svc", { visibilityTenants: ["blue"] })], { defaultAllow: true }), 1);
const CROWD = 1_200;
const stamper = new EntryStamper({ bounds: BOUNDS, traits: new TraitsPool(16) });

function open(names: readonly string[]) {
  const r = new Registry();
  const entries = names.map((instanceId) =>
    draftAt({ kind: KIND.SERVICE, namespace: "svc", name: "web", instanceId }, { aliases: instanceId === "0" ? ["shop.example"] : [] }),
  );
  r.register("ann", entries, at(0), { isStatic: true });
  const policies = { policy: NO_POLICY };
  const reads = new Reads(r.replica, NODE, { policies, onDenied: () => {} });
  const dnsNames = new DnsNames(r.replica, ["waymark"]);
  dnsNames.refresh();
  const self = entryView({ kind: KIND.SERVICE, namespace: "discovery.resolvers", name: "a", instanceId: "a" });
  const catalog = dnsCatalog(() => 0, { reads, replica: r.replica, dnsNames, identity: NODE, policies, self });
  const change = (policy: Policy): void => {
    policies.policy = policy;
    reads.show(policy);
    reads.settle(policy);
  };
  const putNode = (name: string) => {
    const key = { kind: KIND.NODE, namespace: "discovery.nodes", name, instanceId: name };
    const stamp = { ...NODE, zone: "z1", tenantId: "", receivedWallMs: WALL };
    r.register("root", [stamper.entryOfNode(create(EntrySchema, { key }), stamp)], at(0), { isStatic: true });
  };
  return { catalog, change, putNode };
}

test("the name of the serving resolver is its own, and a node's as soon as a node has that id", () => {
  const { catalog, putNode } = open(["0"]);
  const namespacesOf = (name: string) => catalog.find(KIND.NODE, "discovery.nodes", name).map(({ key }) => key.namespace);
  expect([namespacesOf("a"), namespacesOf("b"), catalog.find(KIND.SERVICE, "discovery.nodes", "a")]).toEqual([
    ["discovery.resolvers"],
    [],
    [],
  ]);
  putNode("a");
  expect(namespacesOf("a")).toEqual(["discovery.nodes"]);
});

test("a hidden name and a hidden alias are absent, and each is reported with one answer and not with the next", () => {
  const { catalog, change } = open(["0", "1"]);
  expect(catalog.find(KIND.SERVICE, "svc", "web")).toHaveLength(2);
  expect(catalog.findAlias("shop.example", "waymark")).toHaveLength(1);
  expect(catalog.takeHidden()).toEqual([]);
  change(HIDING);
  expect(catalog.find(KIND.SERVICE, "svc", "web")).toEqual([]);
  expect(catalog.hasNameUnder("svc", "waymark")).toBe(false);
  expect(catalog.takeHidden()).toEqual(["svc"]);
  expect(catalog.takeHidden()).toEqual([]);
  expect(catalog.findAlias("shop.example", "waymark")).toEqual([]);
  expect(catalog.takeHidden()).toEqual(["svc"]);
  expect(catalog.takeHidden()).toEqual([]);
});

test("the revision grows with the policy, so that no answer outlives it", () => {
  const { catalog, change } = open(["0"]);
  const before = catalog.revision;
  change(HIDING);
  expect(catalog.revision).toBeGreaterThan(before);
});

test("a crowded name gives a sample, said once, and another one the next time", () => {
  const { catalog } = open(Array.from({ length: CROWD }, (_, i) => `${i}`));
  const ids = () => catalog.find(KIND.SERVICE, "svc", "web").map(({ key }) => key.instanceId);
  const first = ids();
  expect(first.length).toBeLessThan(CROWD);
  expect([catalog.takeSampled(), catalog.takeSampled()]).toEqual([true, false]);
  expect(ids()).not.toEqual(first);
});
