import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { KIND } from "../../../src/catalog/record/record.ts";
import { runThrough } from "../../../src/lib/machine.ts";
import { type CatalogFacts, type PolicyPlan, planChanges } from "../../../src/policy/set/plan.ts";
import type { PolicySet } from "../../../src/policy/set/rules.ts";
import { Policy, type Viewer } from "../../../src/policy/set/verdict.ts";
import { CLUSTERS, channels, rule, set, someNamespace, someSet, span, TENANTS } from "../../fakes/policies.ts";

const SELF = { clusterId: "eu-1", region: "eu" };
const VIEWERS: readonly Viewer[] = ["", ...TENANTS].flatMap((tenant) => CLUSTERS.map((clusterId) => ({ clusterId, tenant })));

function catalog(namespaces: readonly string[], viewers = VIEWERS): CatalogFacts {
  return {
    namespaces: () => namespaces,
    count: (namespace) => namespace.length,
    examples: (namespace, max) =>
      Array.from({ length: Math.min(max, namespace.length) }, (_, i) => ({
        kind: 1,
        namespace,
        name: `n${i}`,
        instanceId: "i",
        clusterId: "eu-1",
      })),
    viewers: () => viewers,
    channels,
    entries: () => [],
  };
}

function plan(before: PolicySet | undefined, after: PolicySet, facts: CatalogFacts): PolicyPlan {
  return runThrough(planChanges(before, after, { catalog: facts, self: SELF, wallMs: 0 }));
}

test("what would be hidden and shown is told by namespace, with counts, examples and for whom", () => {
  const before = set([rule("svc.a", { visibilityTenants: ["blue"] })], { defaultAllow: true });
  const after = set([rule("svc.a", { visibilityTenants: ["red"] })], { defaultAllow: true });
  const { changes, leftOut } = plan(before, after, catalog(["other", "svc.a", "svc.a.b"]));
  expect(leftOut).toBe(0);
  expect(changes).toMatchObject([
    {
      namespace: "svc.a",
      effect: "hide",
      entries: 5,
      viewers: [
        { clusterId: "eu-1", tenant: "blue" },
        { clusterId: "us-1", tenant: "blue" },
      ],
    },
    { namespace: "svc.a", effect: "show", viewers: [{ tenant: "red" }, { tenant: "red" }] },
    { namespace: "svc.a.b", effect: "hide" },
    { namespace: "svc.a.b", effect: "show" },
  ]);
  expect(changes[0]?.examples).toHaveLength(5);
});

test("the first policy is compared with none: what its default denies is hidden", () => {
  const { changes } = plan(undefined, set([rule("svc.a")]), catalog(["other", "svc.a", "discovery.nodes"]));
  expect(changes.filter(({ effect }) => effect === "hide")).toMatchObject([{ namespace: "other", entries: 5 }]);
});

test("tenants and clusters that only the rules name are looked at too", () => {
  const before = set([rule("a", { visibilityTenants: ["secret"], visibility: ["ap-1"] })]);
  const { changes } = plan(before, set([rule("a", { visibilityTenants: ["secret"] })]), catalog(["a"], []));
  expect(changes).toMatchObject([{ effect: "hide", viewers: [{ clusterId: "ap-1", tenant: "" }] }]);
});

test("a summary of a zone leaves no cluster, so it is not withdrawn", () => {
  const exported = (exportScopes: readonly (1 | 2 | 3 | 4)[]) => set([rule("a", { allowSummaries: true, exportScopes })]);
  expect(plan(exported([SCOPE.ZONE, SCOPE.REGION]), exported([SCOPE.REGION]), catalog(["a"])).changes).toEqual([]);
  expect(plan(exported([SCOPE.ZONE, SCOPE.REGION]), exported([SCOPE.ZONE]), catalog(["a"])).changes).toMatchObject([
    { effect: "withdraw" },
  ]);
});

test("a first policy withdraws nothing that did not leave, as a rule with a window for GLOBAL shows", () => {
  const open = (exportScopes: readonly (1 | 2 | 3 | 4)[]) =>
    set([rule("a", { allowSummaries: true, exportScopes, cutoverWindows: [span(-1, 1)] })]);
  expect(plan(undefined, open([SCOPE.GLOBAL]), catalog(["a"])).changes).toEqual([]);
  expect(plan(undefined, open([SCOPE.REGION]), catalog(["a"])).changes).toMatchObject([{ effect: "withdraw" }]);
});

test("a summary that may no longer leave this cluster is a withdrawal", () => {
  const before = set([rule("a", { allowSummaries: true }), rule("b", { allowSummaries: true, cutoverWindows: [span(-1, 1)] })]);
  const after = set([
    rule("a", { allowSummaries: true, owners: ["us-1"] }),
    rule("b", { allowSummaries: true, cutoverWindows: [span(5)] }),
  ]);
  const { changes } = plan(before, after, catalog(["a", "b"]));
  expect(changes).toMatchObject([
    { namespace: "a", effect: "withdraw", viewers: [] },
    { namespace: "b", effect: "withdraw" },
  ]);
});

test("at most a thousand changes are told, and how many more there are", () => {
  const namespaces = Array.from({ length: 1500 }, (_, i) => `svc-${i}`);
  const { changes, leftOut } = plan(set([], { defaultAllow: true }), set([]), catalog(namespaces));
  // Each is hidden, and its summary withdrawn.
  expect([changes.length, leftOut]).toEqual([1000, 2000]);
});

test("P11: it says of a namespace what the verdicts before and after say of its viewers", () => {
  fc.assert(
    fc.property(
      fc.option(someSet, { nil: undefined }),
      someSet,
      fc.uniqueArray(someNamespace, { maxLength: 5 }),
      (before, after, namespaces) => {
        const { changes } = plan(before, after, catalog(namespaces));
        const [was, is] = [new Policy(before, 0), new Policy(after, 0)];
        for (const namespace of namespaces) {
          const told = (effect: string) => changes.some((change) => change.namespace === namespace && change.effect === effect);
          const differ = (a: Policy, b: Policy) => VIEWERS.some((v) => a.viewer(namespace, v).allowed && !b.viewer(namespace, v).allowed);
          expect([told("hide"), told("show")]).toEqual([differ(was, is), differ(is, was)]);
        }
      },
    ),
  );
});

test("an owner who is none any more: what it holds beyond its cluster is hidden from everybody, and shown when it owns again", () => {
  const held = (["ZONE", "REGION"] as const).flatMap((scope) =>
    ["eu-1", "us-1"].map((clusterId) => ({
      namespace: "svc.a",
      scope: SCOPE[scope],
      from: { clusterId, region: "eu" },
      key: () => ({ kind: KIND.SERVICE, namespace: "svc.a", name: scope, instanceId: clusterId, clusterId }),
    })),
  );
  const facts = { ...catalog([]), entries: () => held };
  const owned = set([rule("svc.a", { owners: ["eu-1", "us-1"] })]);
  const handedOver = set([rule("svc.a", { owners: ["us-1"] })]);
  const { changes } = plan(owned, handedOver, facts);
  expect(changes).toMatchObject([
    { namespace: "svc.a", effect: "hide", entries: 1, examples: [{ name: "REGION", instanceId: "eu-1" }], viewers: [] },
  ]);
  expect(plan(handedOver, owned, facts).changes).toMatchObject([{ effect: "show", entries: 1 }]);
});
