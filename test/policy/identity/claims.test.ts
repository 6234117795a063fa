import fc from "fast-check";
import { expect, test } from "vitest";
import { identityOfClaims, type TokenClaims } from "../../../src/policy/identity/claims.ts";

const NAMES = { principal: "sub", tenant: "tenant", cluster: "cluster", roles: "roles" };
const DEFAULTS = { tenant: "shared", cluster: "local" };
const of = (claims: TokenClaims, names = NAMES) => identityOfClaims(claims, names, DEFAULTS);

test("claims become an identity; what a token does not say is the node's default", () => {
  expect(of({ sub: "auth0|5f7c", tenant: "alpha", cluster: "eu-1", roles: ["mesh.read", "owner:svc.market"] })).toEqual({
    principal: "auth0|5f7c",
    tenant: "alpha",
    cluster: "eu-1",
    roles: ["mesh.read", "owner:svc.market"],
    isAuthenticated: true,
  });
  expect(of({ sub: "web" })).toEqual({ principal: "web", tenant: "shared", cluster: "local", roles: [], isAuthenticated: true });
});

test.each([
  { what: "a list", roles: ["mesh.operate", "mesh.operate"], want: ["mesh.operate"] },
  { what: "words, as in a scope", roles: "openid mesh.admin email", want: ["mesh.admin"] },
  { what: "what is none of ours", roles: ["admin", "MESH.ADMIN", "mesh.root", "owner:", 7, {}], want: [] },
  { what: "nothing of the kind", roles: { admin: true }, want: [] },
])("roles as $what are $want", ({ roles, want }) => {
  expect(of({ sub: "web", roles }).roles).toEqual(want);
});

test("a claim is found by its whole name before dots lead into tables", () => {
  const claims = { sub: "web", realm: { roles: ["mesh.read"] }, "https://example.org/tenant": "alpha", "a.b": "flat", a: { b: "deep" } };
  const names = { ...NAMES, roles: "realm.roles", tenant: "https://example.org/tenant", cluster: "a.b" };
  expect(of(claims, names)).toMatchObject({ roles: ["mesh.read"], tenant: "alpha", cluster: "flat" });
});

test.each([
  { what: "no subject", claims: {} },
  { what: "an empty subject", claims: { sub: "" } },
  { what: "a subject with a space, as only nodes have", claims: { sub: "node n1" } },
  { what: "a subject that is no text", claims: { sub: ["web"] } },
  { what: "a subject that is too long", claims: { sub: "x".repeat(257) } },
  { what: "a tenant that is no id", claims: { sub: "web", tenant: "a b" } },
  { what: "an empty tenant", claims: { sub: "web", tenant: "" } },
  { what: "a tenant that is too long", claims: { sub: "web", tenant: "x".repeat(65) } },
  { what: "a tenant that is a list", claims: { sub: "web", tenant: ["alpha"] } },
  { what: "a cluster that is no id", claims: { sub: "web", cluster: "\u0000" } },
])("$what is refused", ({ claims }) => {
  expect(() => of(claims)).toThrow(/^unauthenticated: token's claim (?:sub|tenant|cluster) is not /);
});

test("whatever a token claims, it is refused or gives valid ids and known roles, and nothing of a prototype", () => {
  const value = fc.oneof(fc.string(), fc.jsonValue(), fc.constantFrom("__proto__", "constructor", "toString"));
  const name = fc.constantFrom("sub", "tenant", "__proto__", "constructor.name", "toString", "a.b");
  fc.assert(
    fc.property(
      fc.dictionary(fc.constantFrom("sub", "tenant", "cluster", "roles", "a"), value),
      name,
      name,
      (claims, principal, tenant) => {
        let identity: ReturnType<typeof of>;
        try {
          identity = of(claims, { ...NAMES, principal, tenant });
        } catch (thrown) {
          expect(String(thrown)).toMatch(/unauthenticated/);
          return;
        }
        expect(identity.principal).toMatch(/^[\x21-\x7e]{1,256}$/);
        expect(identity.tenant).toMatch(/^[A-Za-z0-9._:/@+-]{1,64}$/);
        for (const role of identity.roles) expect(role).toMatch(/^(?:mesh\.(?:read|operate|admin)|owner:.+)$/);
      },
    ),
  );
});
