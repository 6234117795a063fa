import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE, type Scope } from "../../../src/catalog/entry/scope.ts";
import type { CutoverWindow, NamespaceRule } from "../../../src/policy/set/rules.ts";
import { ACTIONS, explain, NO_POLICY, PENDING_POLICY, Policy } from "../../../src/policy/set/verdict.ts";
import { CLUSTERS, someNamespace, someSet, TENANTS } from "../../fakes/policies.ts";

const EU = { clusterId: "eu-1", region: "eu" };

function rule(pattern: string, fields: Partial<NamespaceRule> = {}): NamespaceRule {
  return {
    pattern,
    owners: [],
    visibility: [],
    visibilityTenants: [],
    exportScopes: [],
    allowSummaries: false,
    cutoverWindows: [],
    policyVersion: "",
    priority: 0,
    quota: { entries: 0, watches: 0, bytes: 0 },
    ...fields,
  };
}

function policy(rules: readonly NamespaceRule[], defaultAllow = false): Policy {
  return new Policy({ version: "v1", defaultAllow, rules }, 1);
}

function span(startsWallMs: number, endsWallMs?: number, fields: Partial<CutoverWindow> = {}): CutoverWindow {
  return { startsWallMs, endsWallMs, exportScopes: [], allowSummaries: undefined, ...fields };
}

test("with no policy ever configured all is allowed, and the reason says so", () => {
  const disabled = { allowed: true, reason: "policy_disabled", rule: "", untilWallMs: undefined };
  expect(NO_POLICY.viewer("svc.a", { clusterId: "eu-1", tenant: "" })).toEqual(disabled);
  expect(NO_POLICY.source("svc.a", EU)).toEqual(disabled);
  expect(NO_POLICY.exportSummary("svc.a", EU, { scope: SCOPE.GLOBAL, wallMs: 0 })).toEqual(disabled);
});

test.each([
  { namespace: "a", want: "a" },
  { namespace: "a.b", want: "a.*" },
  { namespace: "a.b.c", want: "a.b.c" },
  { namespace: "a.b.c.d", want: "a.b.c" },
  { namespace: "a.b.x", want: "a.*" },
  { namespace: "ab", want: undefined },
  { namespace: "z.y", want: "z" },
  { namespace: "only", want: undefined },
  { namespace: "only.below", want: "only.*" },
])("the longest prefix rules $namespace: $want", ({ namespace, want }) => {
  const rules = ["a", "a.*", "a.b.c", "z", "only.*"].map((pattern) => rule(pattern));
  expect(policy(rules).ruleOf(namespace)?.pattern).toBe(want);
});

test.each([
  { owners: [], want: "owners_unrestricted" },
  { owners: ["eu-1"], want: "owner_allowed" },
  { owners: ["eu"], want: "owner_allowed" },
  { owners: ["us-1", "us"], want: "owner_denied" },
])("owners $owners, source eu-1 in eu → $want", ({ owners, want }) => {
  expect(policy([rule("svc", { owners })]).source("svc.a", EU).reason).toBe(want);
});

test.each([
  { visibility: [], tenants: [], want: "visibility_unrestricted" },
  { visibility: ["eu-1"], tenants: [], want: "viewer_allowed" },
  { visibility: ["us-1"], tenants: [], want: "viewer_denied" },
  { visibility: [], tenants: ["blue"], want: "tenant_allowed" },
  { visibility: ["us-1"], tenants: ["blue"], want: "tenant_allowed" },
  { visibility: ["eu-1"], tenants: ["red"], want: "viewer_allowed" },
  { visibility: [], tenants: ["red"], want: "viewer_denied" },
])("visibility $visibility and tenants $tenants, viewer blue of eu-1 → $want", ({ visibility, tenants, want }) => {
  const set = policy([rule("svc", { visibility, visibilityTenants: tenants })]);
  expect(set.viewer("svc.a", { clusterId: "eu-1", tenant: "blue" }).reason).toBe(want);
});

test("a viewer without a tenant is not the tenant with the empty name", () => {
  expect(policy([rule("svc", { visibilityTenants: [""] })]).viewer("svc", { clusterId: "eu-1", tenant: "" }).allowed).toBe(false);
});

test.each([true, false])("a namespace without a rule gets default_allow %s", (defaultAllow) => {
  const verdict = policy([rule("svc")], defaultAllow).viewer("other", { clusterId: "eu-1", tenant: "" });
  expect(verdict).toMatchObject({ allowed: defaultAllow, reason: "no_policy", rule: "" });
});

test("the control plane's own namespaces are never filtered", () => {
  const set = policy([rule("discovery", { visibility: ["nobody"] })]);
  expect(set.viewer("discovery.nodes", { clusterId: "eu-1", tenant: "" })).toMatchObject({ allowed: true, reason: "control_plane" });
});

test.each([NO_POLICY, policy([rule("discovery", { allowSummaries: true })])])(
  "the control plane's own namespaces are never summarised",
  (set) => {
    const question = { clusterId: EU.clusterId, tenant: "", region: EU.region, scope: SCOPE.GLOBAL, wallMs: 0 };
    for (const namespace of ["discovery", "discovery.resolvers"])
      expect(explain(set, { ...question, action: "export-summary", namespace })).toMatchObject({ allowed: false, reason: "control_plane" });
  },
);

test.each([
  { name: "summaries are off unless allowed", fields: {}, wallMs: 0, want: "summaries_disabled" },
  { name: "allowed", fields: { allowSummaries: true }, wallMs: 0, want: "summary_allowed" },
  { name: "scope not listed", fields: { allowSummaries: true, exportScopes: [SCOPE.REGION] }, wallMs: 0, want: "scope_denied" },
  { name: "scope listed", fields: { allowSummaries: true, exportScopes: [SCOPE.GLOBAL] }, wallMs: 0, want: "summary_allowed" },
  { name: "not the owner", fields: { allowSummaries: true, owners: ["us"] }, wallMs: 0, want: "owner_denied" },
  { name: "before the window", fields: { allowSummaries: true, cutoverWindows: [span(10, 20)] }, wallMs: 9, want: "cutover_closed" },
  { name: "first instant inside", fields: { allowSummaries: true, cutoverWindows: [span(10, 20)] }, wallMs: 10, want: "summary_allowed" },
  { name: "first instant outside", fields: { allowSummaries: true, cutoverWindows: [span(10, 20)] }, wallMs: 20, want: "cutover_closed" },
  {
    name: "open-ended",
    fields: { cutoverWindows: [span(10, undefined, { allowSummaries: true })] },
    wallMs: 1e12,
    want: "summary_allowed",
  },
  {
    name: "the window overrides",
    fields: { allowSummaries: true, cutoverWindows: [span(0, 9, { allowSummaries: false })] },
    wallMs: 1,
    want: "summaries_disabled",
  },
  {
    name: "the window's scopes",
    fields: { allowSummaries: true, exportScopes: [SCOPE.GLOBAL], cutoverWindows: [span(0, 9, { exportScopes: [SCOPE.REGION] })] },
    wallMs: 1,
    want: "cutover_scope_denied",
  },
  {
    name: "of overlapping windows the latest start",
    fields: { cutoverWindows: [span(0, 100, { allowSummaries: true }), span(50, 100, { allowSummaries: false })] },
    wallMs: 60,
    want: "summaries_disabled",
  },
])("summary export, $name: $want", ({ fields, wallMs, want }) => {
  expect(policy([rule("svc", fields)]).exportSummary("svc.a", EU, { scope: SCOPE.GLOBAL, wallMs }).reason).toBe(want);
});

test("until is the next edge of any window", () => {
  const set = policy([rule("svc", { cutoverWindows: [span(10, 20), span(15)] })]);
  const untilAt = (wallMs: number) => set.exportSummary("svc", EU, { scope: SCOPE.GLOBAL, wallMs }).untilWallMs;
  expect([0, 10, 15, 20, 30].map(untilAt)).toEqual([10, 15, 20, undefined, undefined]);
});

test("P11: Explain says of every action what the verdict of that action says", () => {
  const scope = fc.constantFrom<Scope>(SCOPE.ZONE, SCOPE.REGION, SCOPE.GLOBAL);
  fc.assert(
    fc.property(
      someSet,
      someNamespace,
      fc.constantFrom(...CLUSTERS),
      fc.constantFrom("", ...TENANTS),
      scope,
      (one, namespace, clusterId, tenant, of) => {
        const decides = new Policy(one, 1);
        const source = { clusterId, region: "eu" };
        const question = { namespace, clusterId, tenant, region: "eu", scope: of, wallMs: 0 };
        const viewed = decides.viewer(namespace, { clusterId, tenant });
        const owned = decides.source(namespace, source);
        const exported = decides.exportSummary(namespace, source, { scope: of, wallMs: 0 });
        const want = { register: owned, ingest: owned, query: viewed, watch: viewed, "export-summary": exported, admin: owned };
        for (const action of ACTIONS) expect(explain(decides, { ...question, action })).toEqual(want[action]);
      },
    ),
  );
});

test("something at or below a namespace is shown where its own rule, one below it or the default shows it, and the control plane always", () => {
  const rules = [rule("a.b"), rule("a.c.*", { visibility: ["eu-1"] }), rule("d.e", { visibilityTenants: ["red"] })];
  const shown = (set: Policy, tenant = "") =>
    ["", "a", "a.b.x", "a.c", "a.cc", "b", "d", "d.e", "d.e.f", "discovery", "discovery.nodes", "disc"].filter((namespace) =>
      set.showsUnder(namespace, { clusterId: "eu-1", tenant }),
    );
  const always = ["discovery", "discovery.nodes"];
  expect(shown(policy(rules))).toEqual(["", "a", "a.b.x", "a.c", ...always]);
  expect(shown(policy(rules), "red")).toEqual(["", "a", "a.b.x", "a.c", "d", "d.e", "d.e.f", ...always]);
  expect(shown(policy(rules, true))).toEqual(["", "a", "a.b.x", "a.c", "a.cc", "b", "d", ...always, "disc"]);
  expect(shown(PENDING_POLICY)).toEqual(["", ...always]);
});

test("whoever sees a namespace is shown something under all that lies above it", () => {
  fc.assert(
    fc.property(someSet, someNamespace, fc.constantFrom("", ...TENANTS), (set, namespace, tenant) => {
      const made = new Policy(set, 1);
      const viewer = { clusterId: "eu-1", tenant };
      if (!made.viewer(namespace, viewer).allowed) return;
      const labels = namespace.split(".");
      for (let count = 1; count <= labels.length; count++) expect(made.showsUnder(labels.slice(0, count).join("."), viewer)).toBe(true);
    }),
  );
});
