import fc from "fast-check";
import { expect, test } from "vitest";
import type { Scope } from "../../../src/catalog/entry/scope.ts";
import { BORDERS } from "../../../src/config/borders.ts";
import { RECORD_BOUNDS } from "../../../src/lib/bounds.ts";
import type { PolicySet } from "../../../src/policy/set/rules.ts";
import { hasErrors, openedRules, refuseSet, SET_BOUNDS, validate } from "../../../src/policy/set/validation.ts";
import { Policy } from "../../../src/policy/set/verdict.ts";
import { decodeSummary, encodeSummary } from "../../../src/summary/codec.ts";
import { CLUSTERS, containing, rule, set, someNamespace, somePattern, someSet, span, TENANTS } from "../../fakes/policies.ts";
import { SUMMARY } from "../../fakes/summaries.ts";

// A scope of a newer peer, as the wire may hold it.
const NINE: Scope = Number("9") as never;

test.each([
  { why: "no name", rules: [rule("")], path: "rules[0].namespace", says: "is required" },
  { why: "upper case", rules: [rule("Svc")], path: "rules[0].namespace", says: "[a-z0-9-]" },
  { why: "a star in the middle", rules: [rule("a.*.b")], path: "rules[0].namespace", says: "only as its last label" },
  { why: "only a star", rules: [rule("*")], path: "rules[0].namespace", says: '"*" is not a pattern: a rule needs' },
  { why: "the control plane", rules: [rule("discovery.nodes")], path: "rules[0].namespace", says: "control plane" },
  { why: "the control plane below", rules: [rule("discovery.*")], path: "rules[0].namespace", says: "control plane" },
  { why: "a pattern twice", rules: [rule("a"), rule("b"), rule("a")], path: "rules[2].namespace", says: "rules[0]" },
  { why: "an owner twice", rules: [rule("a", { owners: ["x", "x"] })], path: "rules[0].owners[1]", says: "twice" },
  { why: "a bad tenant", rules: [rule("a", { visibilityTenants: ["x y"] })], path: "rules[0].visibility_tenants[0]", says: '"x y"' },
  { why: "an unknown scope", rules: [rule("a", { exportScopes: [NINE] })], path: "rules[0].export_scopes[0]", says: "unknown scope 9" },
  {
    why: "an unknown scope in a window",
    rules: [rule("a", { cutoverWindows: [span(0, 1, { exportScopes: [NINE] })] })],
    path: "rules[0].cutover_windows[0].export_scopes[0]",
    says: "unknown scope 9",
  },
  {
    why: "a window that ends before it starts",
    rules: [rule("a"), rule("b", { cutoverWindows: [span(5), span(10, 9)] })],
    path: "rules[1].cutover_windows[1].ends_at",
    says: "must be after starts_at",
  },
  {
    why: "an empty window",
    rules: [rule("a", { cutoverWindows: [span(5, 5)] })],
    path: "rules[0].cutover_windows[0].ends_at",
    says: "1970",
  },
  { why: "no time", rules: [rule("a", { cutoverWindows: [span(9e15)] })], path: "rules[0].cutover_windows[0].starts_at", says: "9999" },
  { why: "a long label", rules: [rule("a", { policyVersion: "x".repeat(129) })], path: "rules[0].policy_version", says: "128" },
  { why: "half a priority", rules: [rule("a", { priority: 0.5 })], path: "rules[0].priority", says: "whole number" },
  {
    why: "a negative quota",
    rules: [rule("a", { quota: { entries: -1, watches: 0, bytes: 0 } })],
    path: "rules[0].quota.entries",
    says: "-1",
  },
  {
    why: "too many windows in all rules",
    rules: Array.from({ length: 101 }, (_, i) => rule(`r-${i}`, { cutoverWindows: Array.from({ length: 200 }, () => span(0, 1)) })),
    path: "rules",
    says: "must have at most 20000 cutover windows in all rules together, got 20200",
  },
  {
    why: "too many items",
    rules: [rule("a", { visibility: Array.from({ length: 1001 }, (_, i) => `c-${i}`) })],
    path: "rules[0].visibility",
    says: "must have at most 1000 items, got 1001",
  },
  {
    why: "too many windows",
    rules: [rule("a", { cutoverWindows: Array.from({ length: 257 }, (_, i) => span(i, i + 1)) })],
    path: "rules[0].cutover_windows",
    says: "257",
  },
])("an error names $why at $path", ({ rules, path, says }) => {
  const problems = validate(set(rules));
  expect(problems).toEqual([{ path, severity: "error", message: containing(says) }]);
});

test.each([
  { why: "an unknown owner", rules: [rule("a", { owners: ["eu-1", "eu-9"] })], path: "rules[0].owners[1]", says: '"eu-9"' },
  {
    why: "windows that are over",
    rules: [rule("a", { cutoverWindows: [span(1, 2), span(3, 9)] })],
    path: "rules[0].cutover_windows",
    says: "have ended",
  },
  { why: "a rule that repeats its parent", rules: [rule("a"), rule("a.b.c")], path: "rules[1]", says: "repeats the rule of a" },
  { why: "a rule that repeats its prefix", rules: [rule("a"), rule("a.*")], path: "rules[1]", says: "repeats the rule of a" },
  {
    why: "a pattern nothing can be below",
    rules: [rule(`${"a".repeat(63)}.${"b".repeat(63)}.${"c".repeat(63)}.${"d".repeat(47)}.*`)],
    path: "rules[0].namespace",
    says: "never applies",
  },
])("a warning names $why and lets the set through", ({ rules, path, says }) => {
  const problems = validate(set(rules), { clusters: new Set(["eu-1"]), nowWallMs: 10 });
  expect(problems).toEqual([{ path, severity: "warning", message: containing(says) }]);
  expect(hasErrors(problems)).toBe(false);
});

test("overlapping windows, open ends and rules that differ from their parent are no problem", () => {
  const windows = [span(0, 100), span(50, 200), span(0)];
  const rules = [rule("a", { cutoverWindows: windows }), rule("a.b", { owners: ["eu-1"] }), rule("a.*", { visibility: ["eu-1"] })];
  expect(validate(set(rules))).toEqual([]);
});

test("every problem is told, not only the first; above a thousand errors it says that there are more", () => {
  const bad = Array.from({ length: 2000 }, (_, i) => rule(`x${i}`, { priority: 0.5 }));
  const problems = validate(set(bad));
  expect(problems).toHaveLength(1001);
  expect(problems.at(-1)?.message).toContain("more errors");
  expect(validate(set(bad.slice(0, 3))).map(({ path }) => path)).toEqual([0, 1, 2].map((i) => `rules[${i}].priority`));
});

test(`more than ${SET_BOUNDS.maxRules} rules are refused without looking at them`, () => {
  const problems = validate(set(Array.from({ length: 10_001 }, () => rule("Bad"))));
  expect(problems).toEqual([{ path: "rules", severity: "error", message: "must have at most 10000 rules, got 10001" }]);
});

test("however many warnings there are, they do not refuse a set", () => {
  const rules = Array.from({ length: 2000 }, (_, i) => rule(`x${i}`, { owners: ["far"] }));
  const problems = validate(set(rules), { clusters: new Set() });
  expect(problems).toHaveLength(1001);
  expect(hasErrors(problems)).toBe(false);
});

test("a list of viewers that lost its last one is told: from then on everybody sees it", () => {
  const before = set([rule("a", { visibilityTenants: ["blue"] }), rule("b"), rule("c", { visibility: ["eu-1"] })]);
  const after = set([rule("b"), rule("a"), rule("c", { visibilityTenants: ["blue"] })]);
  expect(openedRules(before, after)).toMatchObject([{ path: "rules[1].visibility_tenants", severity: "warning" }]);
  expect(openedRules(undefined, after)).toEqual([]);
});

const OPEN = { defaultAllow: true };
const BELOW_ONLY = rule("svc.prod.us-east.*", { visibilityTenants: ["ops"] });
const OWNED_BELOW = rule("svc.prod.us-east.*", { owners: ["us-1"] });

test.each([
  { what: "the default is open", one: set([BELOW_ONLY], OPEN), says: "default_allow (true) applies to it" },
  { what: "the default is open to other sources", one: set([OWNED_BELOW], OPEN), says: "default_allow (true) applies to it" },
  { what: "a rule above is open", one: set([BELOW_ONLY, rule("svc")]), says: "the rule of svc applies to it" },
  { what: "a rule above has no owners", one: set([OWNED_BELOW, rule("svc.*")]), says: "the rule of svc.* applies to it" },
  {
    what: "it has entries",
    one: set([BELOW_ONLY]),
    entries: 3,
    says: "us-east itself and its entries (3): default_allow (false) applies to it",
  },
  { what: "it has no entries, and the default denies", one: set([BELOW_ONLY]) },
  { what: "the rule above is limited as well", one: set([BELOW_ONLY, rule("svc", { visibility: ["eu-1"] })]), entries: 3 },
  { what: "it has a rule of its own", one: set([BELOW_ONLY, rule("svc.prod.us-east")], OPEN), entries: 3 },
  { what: "the rule below is as open", one: set([rule("svc.prod.us-east.*", { priority: 1 })], OPEN), entries: 3 },
  { what: "the rule covers it", one: set([rule("svc.prod.us-east", { visibilityTenants: ["ops"] })], OPEN), entries: 3 },
])(
  "svc.prod.us-east.* does not cover svc.prod.us-east, which is warned of when that is likely a mistake: $what",
  ({ one, entries, says }) => {
    const countEntries = (namespace: string) => (namespace === "svc.prod.us-east" ? (entries ?? 0) : 0);
    const found = validate(one, { countEntries }).map(({ path, severity, message }) => `${severity} ${path}: ${message}`);
    expect(found).toHaveLength(says === undefined ? 0 : 1);
    expect(found.join()).toContain(says ?? "");
    expect(found.join()).toContain(says === undefined ? "" : "warning rules[0].namespace: does not cover svc.prod.us-east itself");
  },
);

test("what validate accepts compiles, and each rule rules its own namespace", () => {
  fc.assert(
    fc.property(someSet, (accepted) => {
      expect(hasErrors(validate(accepted))).toBe(false);
      const policy = new Policy(accepted, 1);
      for (const one of accepted.rules) expect(policy.ruleOf(one.pattern.replace(/\.\*$/, ".z"))?.pattern).toBe(one.pattern);
    }),
  );
});

const VIEWERS = ["", ...TENANTS].flatMap((tenant) => [...CLUSTERS, "ap-1"].map((clusterId) => ({ clusterId, tenant })));

/** Who sees the namespace after and did not before. */
function newlySeeing(namespace: string, before: PolicySet, after: PolicySet) {
  const [was, is] = [new Policy(before, 1), new Policy(after, 2)];
  return VIEWERS.filter((viewer) => !was.viewer(namespace, viewer).allowed && is.viewer(namespace, viewer).allowed);
}

test("the longest pattern that is valid can be told to other clusters, in a summary and as an export rule", () => {
  const pattern = `${"a".repeat(63)}.${"b".repeat(63)}.${"c".repeat(63)}.${"d".repeat(48)}.*`;
  expect(pattern.length).toBe(RECORD_BOUNDS.maxNamespaceLength + 2);
  expect(hasErrors(validate(set([rule(pattern)])))).toBe(false);
  expect(decodeSummary(encodeSummary({ ...SUMMARY, policyRule: pattern })).policyRule).toBe(pattern);
  const read = BORDERS.parse([{ cluster_id: "us-1", region: "us", trust: { ca_file: "/ca.pem" }, export: [pattern] }]);
  expect(read).toMatchObject({ value: [{ export: [pattern] }] });
});

test("P10: a rule that lists nobody who is there never shows more, wherever it is added", () => {
  fc.assert(
    fc.property(someSet, somePattern, someNamespace, (before, pattern, namespace) => {
      const others = before.rules.filter((one) => one.pattern !== pattern);
      const after = { ...before, rules: [...others, rule(pattern, { visibilityTenants: ["nobody"] })] };
      expect(newlySeeing(namespace, before, after)).toEqual([]);
    }),
  );
});

test("P10: taking a viewer out of a list never shows more while somebody is left in one, and else is warned of", () => {
  fc.assert(
    fc.property(someSet, someNamespace, fc.constantFrom(...TENANTS, ...CLUSTERS), (before, namespace, gone) => {
      const keep = (list: readonly string[]) => list.filter((one) => one !== gone);
      const rules = before.rules.map((one) => ({
        ...one,
        visibility: keep(one.visibility),
        visibilityTenants: keep(one.visibilityTenants),
      }));
      const after = { ...before, rules };
      const ruled = new Policy(after, 1).ruleOf(namespace)?.pattern ?? "";
      const isWarned = openedRules(before, after).some(({ message }) => message.includes(`of ${ruled} was`));
      if (!isWarned) expect(newlySeeing(namespace, before, after)).toEqual([]);
    }),
  );
});

test("P10: a default that denies shows no more than one that allows", () => {
  fc.assert(
    fc.property(someSet, someNamespace, (any, namespace) => {
      expect(newlySeeing(namespace, { ...any, defaultAllow: true }, { ...any, defaultAllow: false })).toEqual([]);
    }),
  );
});

test("a set with errors is refused with all of them, as many as fit", () => {
  const problems = validate(set(Array.from({ length: 30 }, (_, i) => rule(`x${i}`, { priority: 0.5 }))));
  const refusal = refuseSet(problems);
  expect(refusal.message).toContain(
    "invalid_argument: policy.rules[0].priority: must be a whole number from -2147483648 to 2147483647, got 0.5",
  );
  expect(refusal.message).toContain("(and 29 more)");
  expect(refusal.details.violations).toHaveLength(30);
});
