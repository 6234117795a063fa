/** What one caller sees, and which denials it leaves. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE, type Scope } from "../../../src/catalog/entry/scope.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import {
  mayBeSeen,
  mayPublish,
  NO_POLICY,
  Policy,
  type PolicyVerdict,
  VisibilityFilter,
  visibilityBetween,
  visibilityOf,
} from "../../../src/policy/set/verdict.ts";
import { CLUSTERS, rule, set, someNamespace, someSet, TENANTS } from "../../fakes/policies.ts";

const RED = { ...anonymousCaller("eu-1", "192.0.2.1"), tenant: "red" };
const BLUE_ONLY = new Policy(set([rule("a", { visibilityTenants: ["blue"] }), rule("b")]), 1);

test("a read leaves one denial for each rule that hid something, and none for what it saw", () => {
  const policy = new Policy(set([rule("a", { visibilityTenants: ["blue"] }), rule("a.x", { visibilityTenants: ["blue"] }), rule("b")]), 1);
  const visibility = new VisibilityFilter(policy, RED);
  expect(["a", "a.b", "a.c", "a.x.y", "b", "nowhere", "elsewhere"].map(visibility.sees)).toEqual([
    false,
    false,
    false,
    false,
    true,
    false,
    false,
  ]);
  const told: { readonly namespace: string; readonly rule: string; readonly reason: string }[] = [];
  visibility.tell((who, { action, namespace, verdict }) => {
    expect([who, action]).toEqual([RED, "query"]);
    told.push({ namespace, rule: verdict.rule, reason: verdict.reason });
  });
  expect(told).toEqual([
    { namespace: "a", rule: "a", reason: "viewer_denied" },
    { namespace: "a.x.y", rule: "a.x", reason: "viewer_denied" },
    { namespace: "nowhere", rule: "", reason: "no_policy" },
  ]);
});

test("a scan follows the policy in force", () => {
  const holder = { policy: NO_POLICY };
  const sees = visibilityOf(holder, RED);
  expect(sees("a")).toBe(true);
  holder.policy = BLUE_ONLY;
  expect([sees("a"), sees("b")]).toEqual([false, true]);
});

test("between two policies a viewer sees what both show, and is told the reason of the one that hides", () => {
  fc.assert(
    fc.property(
      someSet,
      someSet,
      someNamespace,
      fc.constantFrom("", ...TENANTS),
      fc.constantFrom(...CLUSTERS),
      (one, two, namespace, tenant, clusterId) => {
        const [before, after] = [new Policy(one, 1), new Policy(two, 2)];
        const viewer = { clusterId, tenant };
        const [was, is] = [before.viewer(namespace, viewer), after.viewer(namespace, viewer)];
        const between = visibilityBetween(before, after).viewer(namespace, viewer);
        expect(between.allowed).toBe(was.allowed && is.allowed);
        if (!between.allowed) expect(between).toEqual(is.allowed ? was : is);
      },
    ),
  );
});

const SCOPES: readonly Scope[] = [SCOPE.LOCAL, SCOPE.ZONE, SCOPE.REGION, SCOPE.GLOBAL];

test.each<{ what: string; verdict: Pick<PolicyVerdict, "allowed" | "reason">; scopes: readonly Scope[] }>([
  { what: "an owner everything", verdict: { allowed: true, reason: "owner_allowed" }, scopes: SCOPES },
  { what: "another what stays in its cluster", verdict: { allowed: false, reason: "owner_denied" }, scopes: [SCOPE.LOCAL, SCOPE.ZONE] },
  { what: "nobody where the default denies", verdict: { allowed: false, reason: "no_policy" }, scopes: [] },
])("may publish: $what", ({ verdict, scopes }) => {
  expect(SCOPES.filter((scope) => mayPublish({ rule: "", ...verdict, untilWallMs: undefined }, scope))).toEqual(scopes);
});

test.each([
  { from: "us-1", here: "eu-1", scope: SCOPE.GLOBAL, seen: true },
  { from: "eu-1", here: "eu-1", scope: SCOPE.ZONE, seen: true },
  { from: "eu-1", here: "eu-1", scope: SCOPE.REGION, seen: false },
  // Of another cluster that is no owner nothing counts, however narrow it says it is.
  { from: "eu-1", here: "ap-1", scope: SCOPE.LOCAL, seen: false },
])("a held record from $from of scope $scope is seen at $here: $seen", ({ from, here, scope, seen }) => {
  const policy = new Policy(set([rule("a", { owners: ["us-1"] })]), 1);
  expect(mayBeSeen(policy, { namespace: "a", scope }, { clusterId: from, region: "" }, here)).toBe(seen);
  expect(mayBeSeen(policy, { namespace: "no.rule", scope }, { clusterId: from, region: "" }, here)).toBe(false);
});
