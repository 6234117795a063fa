import { expect, test } from "vitest";
import { NODES_NAMESPACE } from "../../../src/catalog/entry/names.ts";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { KIND } from "../../../src/catalog/record/record.ts";
import { checkNamespace, checkOwner, checkPublishing, isAdmin, presentFor } from "../../../src/discovery/registrar/write-authorization.ts";
import { NO_POLICY, Policy } from "../../../src/policy/set/verdict.ts";
import { testRecord } from "../../fakes/records.ts";
import { caller, stamped } from "../../fakes/registry.ts";

const RULE = {
  pattern: "svc",
  owners: ["c2"],
  visibility: [],
  visibilityTenants: [],
  exportScopes: [],
  allowSummaries: false,
  cutoverWindows: [],
  policyVersion: "",
  priority: 0,
  quota: { entries: 0, watches: 0, bytes: 0 },
};
const ASKED = { action: "unregister", field: "keys[0]" } as const;
const OWNED = new Policy({ version: "v1", defaultAllow: false, rules: [RULE] }, 1);
const NODE_ENTRY = { ...stamped("n1"), namespace: NODES_NAMESPACE, kind: KIND.NODE };

test.each([
  { what: "anything where no policy is", policy: NO_POLICY, cluster: "c1", made: { scope: SCOPE.GLOBAL }, allowed: true },
  { what: "the owner, as wide as it likes", policy: OWNED, cluster: "c2", made: { scope: SCOPE.GLOBAL }, allowed: true },
  { what: "another cluster for itself", policy: OWNED, cluster: "c1", made: { scope: SCOPE.ZONE }, allowed: true },
  { what: "another cluster for all", policy: OWNED, cluster: "c1", made: { scope: SCOPE.REGION }, allowed: false },
  { what: "where no rule speaks", policy: OWNED, cluster: "c2", made: { namespace: "other", scope: SCOPE.LOCAL }, allowed: false },
  { what: "a node its own entry", policy: OWNED, cluster: "c1", made: NODE_ENTRY, allowed: true },
])("publishing: $what: $allowed", ({ policy, cluster, made, allowed }) => {
  const denials: string[] = [];
  const publishing = {
    source: { clusterId: cluster, region: "r1" },
    policies: { policy },
    onRefused: () => undefined,
    onDenied: (_caller: unknown, { action, verdict }: { action: string; verdict: { reason: string } }) =>
      denials.push(`${action} ${verdict.reason}`),
  };
  const check = () => {
    checkPublishing(publishing, caller("ann"), { ...stamped("a"), ...made }, 0);
  };
  if (allowed) expect(check).not.toThrow();
  else expect(check).toThrow("discovery_access_denied: permission denied: entries[0].key.namespace: ");
  expect(denials).toHaveLength(allowed ? 0 : 1);
});

test.each([
  { who: caller("ann"), allowed: true },
  { who: caller("bob"), allowed: false },
  { who: caller("bob", ["mesh.operate"]), allowed: false },
  { who: caller("bob", ["mesh.admin"]), allowed: true },
])("an entry of ann's may be changed by $who.principal with roles $who.roles: $allowed", ({ who, allowed }) => {
  const told: string[] = [];
  const check = () => {
    checkOwner({ onRefused: ({ detail }) => told.push(detail) }, who, { ...testRecord(), principal: "ann" }, ASKED);
  };
  if (allowed) expect(check).not.toThrow();
  else expect(check).toThrow("discovery_access_denied: permission denied: svc.market/web/i1 (keys[0]) is registered by another principal");
  expect(told).toHaveLength(allowed ? 0 : 1);
  expect(isAdmin(who)).toBe(who.roles.includes("mesh.admin"));
});

const HIDDEN = new Policy({ version: "v1", defaultAllow: true, rules: [{ ...RULE, owners: [], visibilityTenants: ["blue"] }] }, 1);

test.each([
  { who: { ...caller("ann"), tenant: "blue" }, allowed: true },
  { who: { ...caller("bob"), tenant: "red" }, allowed: false },
  { who: { ...caller("bob", ["owner:svc"]), tenant: "red" }, allowed: true },
  { who: { ...caller("bob", ["mesh.admin"]), tenant: "red" }, allowed: true },
  { who: { ...caller("bob", ["mesh.operate", "owner:other"]), tenant: "red" }, allowed: false },
])("tenant $who.tenant with roles $who.roles publishes where only blue may look: $allowed", ({ who, allowed }) => {
  const denials: string[] = [];
  const publishing = {
    source: { clusterId: "c1", region: "r1" },
    policies: { policy: HIDDEN },
    onRefused: () => undefined,
    onDenied: (_caller: unknown, { verdict }: { verdict: { reason: string } }) => denials.push(verdict.reason),
  };
  const check = () => {
    checkPublishing(publishing, who, stamped("a"), 0);
  };
  if (allowed) expect(check).not.toThrow();
  else
    expect(check).toThrow(
      "discovery_access_denied: permission denied: entries[0].key.namespace: svc is not visible to this caller (viewer_denied)",
    );
  expect(denials).toEqual(allowed ? [] : ["viewer_denied"]);
  // Of others' entries; one's own may always be taken away.
  const record = { ...testRecord(), namespace: "svc", principal: "zoe" };
  expect(presentFor(publishing, who, record)).toBe(allowed ? record : undefined);
  expect(denials).toHaveLength(allowed ? 0 : 2);
  const own = { ...record, principal: who.principal };
  expect(presentFor(publishing, who, own)).toBe(own);
  expect(presentFor({ ...publishing, policies: { policy: NO_POLICY } }, who, record)).toBe(record);
  expect(presentFor(publishing, who, undefined)).toBeUndefined();
});

test.each([
  { namespace: "svc.orders", policy: NO_POLICY, cluster: "c1", want: undefined },
  { namespace: "svc.orders", policy: OWNED, cluster: "c2", want: undefined },
  {
    namespace: "svc.orders",
    policy: OWNED,
    cluster: "c1",
    want: "discovery_access_denied: permission denied: scope: cluster c1 cannot publish in svc.orders (owner_denied)",
  },
  {
    namespace: "svc.orders",
    policy: HIDDEN,
    cluster: "c1",
    want: "discovery_access_denied: permission denied: scope: svc.orders is not visible to this caller (viewer_denied)",
  },
  ...["discovery", "discovery.nodes", "node"].map((namespace) => ({
    namespace,
    policy: NO_POLICY,
    cluster: "c1",
    want: `invalid_argument: scope: the namespace ${namespace} is reserved for the control plane`,
  })),
])("whether a program may lead a scope of $namespace on $cluster: $want", ({ namespace, policy, cluster, want }) => {
  let denials = 0;
  const publishing = {
    source: { clusterId: cluster, region: "r1" },
    policies: { policy },
    onRefused: () => undefined,
    onDenied: () => (denials += 1),
  };
  const check = () => {
    checkNamespace(publishing, { ...caller("ann"), tenant: "red" }, namespace, "scope");
  };
  if (want === undefined) expect(check).not.toThrow();
  else expect(check).toThrow(want);
  expect(denials).toBe(want?.startsWith("discovery_access_denied") === true ? 1 : 0);
});
