/** The catalog as DNS reads it: what policy hides from an anonymous caller, and what of it each answer reports. */
import { expect, test } from "vitest";
import { KIND } from "../../src/catalog/record/record.ts";
import { DnsNames } from "../../src/discovery/dns-names.ts";
import { Reads } from "../../src/discovery/reads.ts";
import { dnsCatalog } from "../../src/dns/catalog.ts";
import { NO_POLICY, Policy } from "../../src/policy/set/verdict.ts";
import { rule, set } from "../fakes/policies.ts";
import { at, draftAt, Registry } from "../fakes/registry.ts";

const NODE = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b1" };
/** Only the tenant blue sees `svc`, and a caller of DNS has no tenant. */
const HIDING = new Policy(set([rule("svc", { visibilityTenants: ["blue"] })], { defaultAllow: true }), 1);
const CROWD = 1_200;

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
  const catalog = dnsCatalog(() => 0, { reads, replica: r.replica, dnsNames, identity: NODE, policies });
  const change = (policy: Policy): void => {
    policies.policy = policy;
    reads.show(policy);
    reads.settle(policy);
  };
  return { catalog, change };
}

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
