/** A renewal needs the right that the registration needed (semantics.md, Leases and life). */
import { expect, test } from "vitest";
import { RESOLVERS_NAMESPACE } from "../../../src/catalog/entry/names.ts";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import type { Caller } from "../../../src/policy/identity/caller.ts";
import type { NamespaceRule } from "../../../src/policy/set/rules.ts";
import { NO_POLICY, PENDING_POLICY, Policy, type PolicyVerdict, type RecordSource } from "../../../src/policy/set/verdict.ts";
import { at, caller, command, draftAt, Registry, stamped } from "../../fakes/registry.ts";

const TTL_MS = 30_000;
const RULE: NamespaceRule = {
  pattern: "svc",
  owners: [],
  visibility: [],
  visibilityTenants: [],
  exportScopes: [],
  allowSummaries: false,
  cutoverWindows: [],
  policyVersion: "",
  priority: 0,
  quota: { entries: 0, watches: 0, bytes: 0 },
};
const policyOf = (rule: Partial<NamespaceRule>, number = 1) =>
  new Policy({ version: "", defaultAllow: true, rules: [{ ...RULE, ...rule }] }, number);
const of = (tenant: string, roles: readonly string[] = []): Caller => ({ ...caller("ann", roles), tenant });
const RESOLVER = draftAt({ namespace: RESOLVERS_NAMESPACE, name: "edge", instanceId: "edge" }, { scope: SCOPE.REGION });

/** Whether a renewal at that time is taken; the lease of a registration at 0 otherwise runs out. */
function isRenewed(r: Registry, who: Caller, leaseId: string, ms: number): boolean {
  const { expiredLeaseIds } = r.registrar.renew(who, [leaseId], [], at(ms));
  expect([[], [leaseId]]).toContainEqual(expiredLeaseIds);
  return expiredLeaseIds.length === 0;
}

function endLeases(r: Registry, ms: number): readonly string[] {
  r.registrar.tick(at(ms));
  r.flush(at(ms));
  return r.names();
}

test("a resolver whose credential lost its role does not keep its entry, and keeps it when it has the role again in time", () => {
  const r = new Registry();
  const [trusted, fallen] = [caller("ann", ["mesh.resolve"]), caller("ann")];
  const { leaseId } = r.registrar.register(trusted, command([RESOLVER]), at(0));
  r.flush(at(0));
  expect([isRenewed(r, trusted, leaseId, 10_000), isRenewed(r, fallen, leaseId, 20_000), isRenewed(r, trusted, leaseId, 30_000)]).toEqual([
    true,
    false,
    true,
  ]);
  expect(r.refused).toEqual(["renew discovery.resolvers"]);
  expect(isRenewed(r, fallen, leaseId, 50_000)).toBe(false);
  expect([endLeases(r, 59_999), endLeases(r, 60_000)]).toEqual([["edge"], []]);
});

const REGION = { scope: SCOPE.REGION };
test.each([
  {
    what: "its tenant may not see the namespace any more",
    now: policyOf({ visibilityTenants: ["blue"] }),
    who: of("red"),
    denied: "viewer_denied svc",
  },
  { what: "its tenant still may", now: policyOf({ visibilityTenants: ["blue"] }), who: of("blue") },
  { what: "it owns the namespace", now: policyOf({ visibilityTenants: ["blue"] }), who: of("red", ["owner:svc"]) },
  {
    what: "another cluster owns it now, for a wide scope",
    now: policyOf({ owners: ["c2"] }),
    who: of("red"),
    init: REGION,
    denied: "owner_denied svc",
  },
  { what: "another cluster owns it now, for a narrow scope", now: policyOf({ owners: ["c2"] }), who: of("red") },
  { what: "it is of another namespace", now: policyOf({ pattern: "pay", owners: ["c2"] }), who: of("red"), init: REGION },
  { what: "no policy can be read", now: new Policy({ version: "", defaultAllow: false, rules: [] }, 0), who: of("red") },
  { what: "the policy is awaited", now: PENDING_POLICY, who: of("red") },
])("after a change of policy, a lease of whom: $what", ({ now, who, init = {}, denied }) => {
  const r = new Registry();
  r.policies.policy = policyOf({});
  const { leaseId } = r.registrar.register(who, command([stamped("web", init)]), at(0));
  r.flush(at(0));
  expect(isRenewed(r, who, leaseId, 1000)).toBe(true);
  r.policies.policy = now;
  expect([isRenewed(r, who, leaseId, 2000), r.refused]).toEqual([denied === undefined, denied === undefined ? [] : [denied]]);
  // Until its ttl is over nothing is lost: a policy that was a mistake is taken back.
  r.policies.policy = policyOf({}, 3);
  expect(isRenewed(r, who, leaseId, TTL_MS)).toBe(true);
});

test("a lease with one entry that may not be held is not renewed, nor joined; what may be registered goes under another one", () => {
  const r = new Registry();
  const who = of("red");
  const other = draftAt({ namespace: "pay", name: "pay", instanceId: "1" }, {});
  const { leaseId } = r.registrar.register(who, command([stamped("web"), other]), at(0));
  r.flush(at(0));
  r.policies.policy = policyOf({ pattern: "pay", visibilityTenants: ["blue"] });
  expect(isRenewed(r, who, leaseId, 1000)).toBe(false);
  expect(() => r.registrar.register(who, command([stamped("web")], { leaseId }), at(2000))).toThrow("lease_not_found");
  r.registrar.register(who, command([stamped("web")]), at(20_000));
  expect(endLeases(r, TTL_MS)).toEqual(["web"]);
});

test("a key that comes under a lease is judged at its next renewal", () => {
  const r = new Registry();
  const [trusted, plain] = [caller("ann", ["mesh.resolve"]), caller("ann")];
  const { leaseId } = r.registrar.register(plain, command([stamped("web")]), at(0));
  r.flush(at(0));
  expect(isRenewed(r, plain, leaseId, 1000)).toBe(true);
  r.registrar.register(trusted, command([RESOLVER], { leaseId }), at(2000));
  r.flush(at(2000));
  expect([isRenewed(r, plain, leaseId, 3000), isRenewed(r, trusted, leaseId, 3000)]).toEqual([false, true]);
});

test("a lease is judged once under a policy, and again for another caller or policy", () => {
  let asked = 0;
  class Counted extends Policy {
    override source(namespace: string, source: RecordSource): PolicyVerdict {
      asked += 1;
      return super.source(namespace, source);
    }
  }
  const counted = (number: number) => new Counted({ version: "", defaultAllow: true, rules: [] }, number);
  const r = new Registry();
  r.policies.policy = NO_POLICY;
  const { leaseId } = r.registrar.register(of("red"), command([stamped("web"), stamped("api")]), at(0));
  r.flush(at(0));
  const after = (act: () => unknown) => {
    asked = 0;
    act();
    return asked;
  };
  r.policies.policy = counted(1);
  const renewals = (who: Caller) => () => [1, 2, 3].map((ms) => isRenewed(r, { ...who }, leaseId, ms));
  expect([after(renewals(of("red"))), after(renewals(of("red"))), after(renewals(of("blue")))]).toEqual([1, 0, 1]);
  r.policies.policy = counted(2);
  expect(after(renewals(of("blue")))).toBe(1);
});
