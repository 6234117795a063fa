import fc from "fast-check";
import { expect, test } from "vitest";
import { runThrough } from "../../../src/lib/machine.ts";
import { isOwnerOf } from "../../../src/policy/identity/caller.ts";
import { diffSlices, foreignChangeSlices, type OwnershipTest } from "../../../src/policy/set/diff.ts";
import type { PolicySet } from "../../../src/policy/set/rules.ts";
import { Policy } from "../../../src/policy/set/verdict.ts";
import { runs } from "../../fakes/effort.ts";
import { CLUSTERS, rule, set, someNamespace, someSet, span, TENANTS } from "../../fakes/policies.ts";

const diff = (before: PolicySet | undefined, after: PolicySet) => runThrough(diffSlices(before, after));

test("rules that came, went and changed are told by pattern, with the items that differ", () => {
  const before = set([rule("b", { visibilityTenants: ["blue", "red"] }), rule("c"), rule("d")]);
  const after = set([rule("d"), rule("a"), rule("b", { visibilityTenants: ["green", "blue"], allowSummaries: true })], { version: "v2" });
  expect(diff(before, after)).toEqual([
    { pattern: "", change: "changed", fields: [{ field: "version", removed: ["v1"], added: ["v2"] }] },
    { pattern: "a", change: "added", fields: [] },
    {
      pattern: "b",
      change: "changed",
      fields: [
        { field: "visibility_tenants", removed: ["red"], added: ["green"] },
        { field: "allow_summaries", removed: ["false"], added: ["true"] },
      ],
    },
    { pattern: "c", change: "removed", fields: [] },
  ]);
});

test("the first set differs from no policy", () => {
  expect(diff(undefined, set([rule("a")]))).toMatchObject([
    { pattern: "", fields: [{ field: "version" }, { field: "default_allow", removed: ["no policy"], added: ["false"] }] },
    { pattern: "a", change: "added" },
  ]);
});

test("a window is told as a person would write it, and of long lists the first items and how many more", () => {
  const after = rule("a", {
    cutoverWindows: [span(0, 1000, { exportScopes: [4] })],
    owners: Array.from({ length: 50 }, (_, i) => `o${i}`),
  });
  const [change] = diff(set([rule("a")]), set([after]));
  expect(change?.fields).toMatchObject([
    { field: "owners" },
    { field: "cutover_windows", added: ["1970-01-01T00:00:00.000Z to 1970-01-01T00:00:01.000Z global"] },
  ]);
  expect(change?.fields[0]?.added.slice(18)).toEqual(["o18", "… and 31 more"]);
});

test("a set does not differ from itself, in whatever order its rules are", () => {
  fc.assert(
    fc.property(someSet, (any) => {
      expect(diff(any, { ...any, rules: any.rules.toReversed() })).toEqual([]);
    }),
  );
});

const foreignChange = (before: PolicySet | undefined, after: PolicySet, owns: OwnershipTest) =>
  runThrough(foreignChangeSlices(before, after, owns));
const ownsMarket = (namespace: string) => isOwnerOf({ roles: ["owner:svc.market"] }, namespace);
const QUOTA = { entries: 5, watches: 0, bytes: 0 };
const base = set([
  rule("svc", { quota: QUOTA, priority: 3 }),
  rule("svc.market", { owners: ["eu"], quota: QUOTA, priority: 3 }),
  rule("svc.shop"),
]);

/** The base with other rules, by pattern; undefined takes one out. */
function but(rules: Readonly<Record<string, ReturnType<typeof rule> | undefined>>, fields: Partial<PolicySet> = {}): PolicySet {
  const all = new Map<string, ReturnType<typeof rule> | undefined>(base.rules.map((each) => [each.pattern, each]));
  for (const [pattern, each] of Object.entries(rules)) all.set(pattern, each);
  return set(
    [...all.values()].flatMap((each) => (each === undefined ? [] : [each])),
    fields,
  );
}

const bounded = { quota: QUOTA, priority: 3 };

test.each<{ what: string; after: PolicySet; want: string | undefined }>([
  { what: "nothing", after: base, want: undefined },
  { what: "the author's label", after: but({}, { version: "v2" }), want: undefined },
  {
    what: "who owns and sees it",
    after: but({ "svc.market": rule("svc.market", { ...bounded, owners: ["us"], visibility: ["us-1"] }) }),
    want: undefined,
  },
  { what: "a new rule below it", after: but({ "svc.market.eu.*": rule("svc.market.eu.*", bounded) }), want: undefined },
  { what: "a new rule of what is below it", after: but({ "svc.market.*": rule("svc.market.*", bounded) }), want: undefined },
  { what: "its rule taken out", after: but({ "svc.market": undefined }), want: undefined },
  { what: "default_allow", after: but({}, { defaultAllow: true }), want: "default_allow" },
  { what: "a rule beside it", after: but({ "svc.shop": rule("svc.shop", { owners: ["us"] }) }), want: "svc.shop" },
  { what: "a rule beside it taken out", after: but({ "svc.shop": undefined }), want: "svc.shop" },
  { what: "the rule above it", after: but({ svc: undefined }), want: "svc" },
  { what: "a rule of what is below the one above it", after: but({ "svc.*": rule("svc.*", bounded) }), want: "svc.*" },
  { what: "a name that only starts alike", after: but({ "svc.marketing": rule("svc.marketing") }), want: "svc.marketing" },
  { what: "its quota", after: but({ "svc.market": rule("svc.market", { owners: ["eu"], priority: 3 }) }), want: "quota or priority" },
  {
    what: "its priority",
    after: but({ "svc.market": rule("svc.market", { owners: ["eu"], quota: QUOTA, priority: 9 }) }),
    want: "quota or priority",
  },
  {
    what: "a new rule below it without the quota",
    after: but({ "svc.market.eu": rule("svc.market.eu", { priority: 3 }) }),
    want: "quota or priority",
  },
  { what: "everything gone", after: set([]), want: "svc" },
])("the owner of svc.market changes $what: $want", ({ after, want }) => {
  const found = foreignChange(base, after, ownsMarket);
  if (want === undefined) expect(found).toBeUndefined();
  else expect(found).toContain(want);
});

test("an owner cannot be the first to apply a policy, not even one without rules", () => {
  expect(foreignChange(undefined, set([], { version: "" }), ownsMarket)).toContain("default_allow");
  expect(foreignChange(undefined, set([rule("svc.market")]), ownsMarket)).toBeDefined();
});

test("whatever an owner may put in force, the verdicts on what it does not own are the same, and so are the quotas everywhere", () => {
  const owns = (namespace: string) => isOwnerOf({ roles: ["owner:a.b"] }, namespace);
  const step = fc.tuple(someSet, someSet, fc.boolean()).map(([before, other, isMixed]) => {
    if (!isMixed) return { before, after: other };
    // Mostly sets that differ in what is owned only, or the property would say little.
    const isTheirs = (pattern: string) => owns(pattern.replace(/\.\*$/, ""));
    const rules = [...before.rules.filter(({ pattern }) => !isTheirs(pattern)), ...other.rules.filter(({ pattern }) => isTheirs(pattern))];
    const free = (each: PolicySet["rules"][number]) => ({ ...each, quota: { entries: 0, watches: 0, bytes: 0 }, priority: 0 });
    return { before: { ...before, rules: before.rules.map(free) }, after: { ...before, rules: rules.map(free) } };
  });
  let allowed = 0;
  fc.assert(
    fc.property(step, fc.array(someNamespace, { minLength: 1, maxLength: 5 }), ({ before, after }, namespaces) => {
      if (foreignChange(before, after, owns) !== undefined) return;
      allowed += 1;
      const [was, is] = [new Policy(before, 1), new Policy(after, 2)];
      for (const namespace of namespaces) {
        expect(boundsOf(is, namespace)).toEqual(boundsOf(was, namespace));
        if (owns(namespace)) continue;
        for (const clusterId of CLUSTERS)
          for (const tenant of ["", ...TENANTS]) {
            expect(is.viewer(namespace, { clusterId, tenant })).toEqual(was.viewer(namespace, { clusterId, tenant }));
          }
      }
    }),
    { numRuns: runs(500) },
  );
  expect(allowed).toBeGreaterThan(runs(200));
});

function boundsOf(policy: Policy, namespace: string) {
  const { quota, priority } = policy.ruleOf(namespace) ?? rule(namespace);
  return { quota, priority };
}
