import fc from "fast-check";
import { expect, test } from "vitest";
import { anonymousCaller, hasRole, isOwner, isOwnerOf, isRole, MESH_ROLES, viewerOf } from "../../../src/policy/identity/caller.ts";

test("a caller without a credential owns nothing, has no role, and sees with the serving node's eyes", () => {
  expect(anonymousCaller("eu-1", "192.0.2.7")).toEqual({
    principal: "",
    tenant: "",
    cluster: "eu-1",
    roles: [],
    isAuthenticated: false,
    address: "192.0.2.7",
  });
});

test.each([
  { roles: [], has: [] },
  { roles: ["mesh.read"], has: ["mesh.read"] },
  { roles: ["mesh.operate"], has: ["mesh.read", "mesh.operate"] },
  { roles: ["mesh.admin"], has: ["mesh.read", "mesh.operate", "mesh.admin"] },
  { roles: ["owner:svc.market", "mesh.adminX"], has: [] },
])("roles $roles count as $has", ({ roles, has }) => {
  expect(MESH_ROLES.filter((role) => hasRole({ roles }, role))).toEqual(has);
});

test.each([
  { roles: ["owner:svc.market"], namespace: "svc.market", want: true },
  { roles: ["owner:svc.market"], namespace: "svc.market.eu", want: true },
  { roles: ["owner:svc.market"], namespace: "svc.marketing", want: false },
  { roles: ["owner:svc.market"], namespace: "svc", want: false },
  { roles: ["owner:svc.market"], namespace: "", want: false },
  { roles: ["owner:"], namespace: "svc.market", want: false },
  { roles: ["mesh.operate"], namespace: "svc.market", want: false },
  { roles: ["mesh.admin"], namespace: "svc.market", want: true },
  { roles: ["mesh.admin"], namespace: "", want: true },
])("$roles owns $namespace: $want", ({ roles, namespace, want }) => {
  expect(isOwnerOf({ roles }, namespace)).toBe(want);
});

test.each([
  { roles: ["mesh.read", "owner:svc"], want: true },
  { roles: ["mesh.admin"], want: false },
  { roles: ["owner:"], want: false },
])("$roles own some namespace: $want", ({ roles, want }) => {
  expect(isOwner({ roles })).toBe(want);
});

test.each([
  { text: "mesh.read", want: true },
  { text: "owner:svc", want: true },
  { text: "owner:", want: false },
  { text: "admin", want: false },
  { text: "mesh.*", want: false },
])("$text is a role: $want", ({ text, want }) => {
  expect(isRole(text)).toBe(want);
});

test("what a request says of its viewer counts only without a credential and where that is allowed, and never changes who calls", () => {
  const ids = fc.constantFrom("", "a", "b");
  fc.assert(
    fc.property(fc.boolean(), fc.boolean(), ids, ids, (isAuthenticated, allows, clusterId, tenantId) => {
      const caller = { ...anonymousCaller("home", "192.0.2.7"), tenant: "own", isAuthenticated };
      const viewer = viewerOf(caller, { clusterId, tenantId }, allows);
      const counts = !isAuthenticated && allows;
      expect(viewer).toEqual({ ...caller, cluster: counts ? clusterId || "home" : "home", tenant: counts ? tenantId || "own" : "own" });
    }),
  );
  expect(viewerOf(anonymousCaller("home", ""), undefined, true)).toEqual(anonymousCaller("home", ""));
});
