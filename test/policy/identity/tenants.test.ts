import { expect, test } from "vitest";
import { parseBlock } from "../../../src/lib/addresses.ts";
import { NO_REVOCATIONS } from "../../../src/lib/certificates/revocations.ts";
import { sha256Hex } from "../../../src/lib/crypto.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import type { Caller, CallerIdentity } from "../../../src/policy/identity/caller.ts";
import type { PeerCertificate } from "../../../src/policy/identity/certificates.ts";
import { type CredentialScheme, type TenantOptions, Tenants } from "../../../src/policy/identity/tenants.ts";

const PROXY = "10.0.0.9";
const ELSEWHERE = "192.0.2.7";
const CERTIFICATE: PeerCertificate = {
  isTrusted: true,
  alternativeNames: "URI:spiffe://prod.example/ns/market/sa/web",
  commonName: "web",
  issuer: "CN=test",
  validFromWallMs: 0,
  expiresWallMs: 1000,
  tokenId: "cert:01",
};
const UNTRUSTED: PeerCertificate = { isTrusted: false, why: "CERT_HAS_EXPIRED" };
const SIGNED = "e.y.J";

function credential(scheme: CredentialScheme, token: string, identity: Partial<CallerIdentity>) {
  const whole = { principal: token, tenant: "", cluster: "local", roles: [], isAuthenticated: true, ...identity };
  return { scheme, digest: sha256Hex(token), identity: whole };
}

function tenants(over: Partial<TenantOptions> = {}): Tenants {
  return new Tenants({
    isTenantMode: false,
    defaults: { tenant: "", cluster: "local" },
    anonymousRoles: [],
    areCertificatesIdentities: true,
    certificates: [{ pattern: "spiffe://prod.example/ns/market/*", tenant: "market", cluster: undefined, roles: ["mesh.read"] }],
    credentials: [
      credential("bearer", "token-a", { tenant: "alpha", cluster: "eu-1", roles: ["mesh.operate"] }),
      credential("api-key", "key-b", { tenant: "beta" }),
    ],
    revocations: NO_REVOCATIONS,
    tokens: {
      identityOf: (token) => {
        const identity = { principal: "signed", tenant: "gamma", cluster: "local", roles: [], isAuthenticated: true };
        if (token === SIGNED) return Promise.resolve(identity);
        if (token === "seen") return identity;
        throw new WaymarkError("unauthenticated", "token is malformed or of an unsupported kind");
      },
    },
    trustedHeader: { name: "x-tenant", from: [parseBlock("10.0.0.0/8") ?? { bytes: new Uint8Array(), prefixBits: 0 }] },
    wallMs: () => 500,
    ...over,
  });
}

interface Showing {
  readonly headers?: Readonly<Record<string, string>>;
  readonly certificate?: PeerCertificate;
  readonly address?: string;
}

function identify({ headers = {}, certificate, address = ELSEWHERE }: Showing, table = tenants()): Caller | Promise<Caller> {
  return table.identify((name) => headers[name], { address, certificate });
}

const BEARER = { authorization: "Bearer token-a" };
const KEY = { "x-api-key": "key-b" };
const HEADER = { "x-tenant": "delta" };

test.each([
  { what: "nothing", showing: {}, want: { principal: "", tenant: "", cluster: "local", roles: [], isAuthenticated: false } },
  {
    what: "a bearer token",
    showing: { headers: BEARER },
    want: { principal: "token-a", tenant: "alpha", cluster: "eu-1", roles: ["mesh.operate"] },
  },
  { what: "a bearer token, written otherwise", showing: { headers: { authorization: "bearer  token-a " } }, want: { tenant: "alpha" } },
  { what: "an API key", showing: { headers: KEY }, want: { principal: "key-b", tenant: "beta", isAuthenticated: true } },
  { what: "a signed token", showing: { headers: { authorization: `Bearer ${SIGNED}` } }, want: { principal: "signed", tenant: "gamma" } },
  {
    what: "a proxy's header",
    showing: { headers: HEADER, address: PROXY },
    want: { principal: "delta", tenant: "delta", roles: [], isAuthenticated: true },
  },
  {
    what: "a certificate",
    showing: { certificate: CERTIFICATE },
    want: {
      principal: "spiffe://prod.example/ns/market/sa/web",
      tenant: "market",
      cluster: "local",
      roles: ["mesh.read"],
      isAuthenticated: true,
      tokenId: "cert:01",
    },
  },
  { what: "a certificate and a token", showing: { certificate: CERTIFICATE, headers: BEARER }, want: { tenant: "market" } },
  {
    what: "a certificate and a wrong token",
    showing: { certificate: CERTIFICATE, headers: { authorization: "Bearer no" } },
    want: { tenant: "market" },
  },
  { what: "a token and a header", showing: { headers: { ...BEARER, ...HEADER }, address: PROXY }, want: { tenant: "alpha" } },
  { what: "a token and a header from elsewhere", showing: { headers: { ...BEARER, ...HEADER } }, want: { tenant: "alpha" } },
  { what: "a key and a header", showing: { headers: { ...KEY, ...HEADER }, address: PROXY }, want: { tenant: "beta" } },
])("$what makes $want", async ({ showing, want }) => {
  const caller = await identify(showing);
  expect(caller).toMatchObject({ ...want, address: (showing as Showing).address ?? ELSEWHERE });
});

test.each([
  { what: "an unknown token", showing: { headers: { authorization: "Bearer token-x" } }, says: "token is malformed" },
  { what: "an API key as a token", showing: { headers: { authorization: "Bearer key-b" } }, says: "token is malformed" },
  { what: "a token as an API key", showing: { headers: { "x-api-key": "token-a" } }, says: "x-api-key is unknown on this node" },
  { what: "an unknown API key", showing: { headers: { "x-api-key": "key-x" } }, says: "x-api-key is unknown on this node" },
  { what: "an empty API key", showing: { headers: { "x-api-key": "" } }, says: "x-api-key is unknown on this node" },
  { what: "two API keys in one header", showing: { headers: { "x-api-key": "key-b, key-b" } }, says: "x-api-key is unknown on this node" },
  { what: "another scheme", showing: { headers: { authorization: "Basic dG9rZW4tYQ==" } }, says: 'must have the form "Bearer <token>"' },
  { what: "no token", showing: { headers: { authorization: "Bearer " } }, says: 'must have the form "Bearer <token>"' },
  { what: "an empty authorization", showing: { headers: { authorization: "" } }, says: 'must have the form "Bearer <token>"' },
  { what: "two tokens", showing: { headers: { authorization: "Bearer token-a token-a" } }, says: 'must have the form "Bearer <token>"' },
  { what: "a token of 9 KiB", showing: { headers: { authorization: `Bearer ${"x".repeat(9216)}` } }, says: "longer than 8192 characters" },
  { what: "a key of 9 KiB", showing: { headers: { "x-api-key": "x".repeat(9216) } }, says: "longer than 8192 characters" },
  { what: "a token and a key", showing: { headers: { ...BEARER, ...KEY } }, says: "send one of them" },
  { what: "a header from elsewhere", showing: { headers: HEADER }, says: "is accepted only from the configured proxies" },
  { what: "a header that is no id", showing: { headers: { "x-tenant": "delta, epsilon" }, address: PROXY }, says: "must be an id" },
  { what: "an empty header", showing: { headers: { "x-tenant": "" }, address: PROXY }, says: "must be an id" },
  { what: "another authority's certificate", showing: { certificate: UNTRUSTED }, says: "not trusted (CERT_HAS_EXPIRED)" },
  { what: "another authority's certificate and a good token", showing: { certificate: UNTRUSTED, headers: BEARER }, says: "not trusted" },
])("$what is refused and never passes for nobody", async ({ showing, says }) => {
  let thrown: unknown;
  try {
    await identify(showing);
  } catch (error) {
    thrown = error;
  }
  expect(thrown).toMatchObject({ reason: "unauthenticated" });
  const message = String(thrown);
  expect(message).toContain(says);
  for (const secret of ["token-a", "token-x", "key-b", "key-x", "dG9rZW4"]) expect(message).not.toContain(secret);
});

test.each([
  { isTenantMode: false, showing: {}, want: "shared" },
  { isTenantMode: true, showing: {}, want: "" },
  { isTenantMode: true, showing: { certificate: { ...CERTIFICATE, alternativeNames: "", commonName: "other" } }, want: "shared" },
])("tenant mode $isTenantMode: the default tenant is $want for $showing", async ({ isTenantMode, showing, want }) => {
  const caller = await identify(showing, tenants({ isTenantMode, defaults: { tenant: "shared", cluster: "local" } }));
  expect(caller.tenant).toBe(want);
});

test("where certificates only let connections in, the token says who calls, and an untrusted certificate is refused all the same", async () => {
  const table = tenants({ areCertificatesIdentities: false });
  expect(await identify({ certificate: CERTIFICATE, headers: BEARER }, table)).toMatchObject({ tenant: "alpha" });
  expect(await identify({ certificate: CERTIFICATE }, table)).toMatchObject({ principal: "", isAuthenticated: false });
  expect(() => identify({ certificate: UNTRUSTED, headers: BEARER }, table)).toThrow("not trusted");
});

test("the first rule whose pattern matches says what a certificate may do; with none it has a name and nothing else", async () => {
  const rules = [
    { pattern: "spiffe://prod.example/ns/market/sa/web", tenant: "one", cluster: "eu-1", roles: ["mesh.admin"] },
    { pattern: "*", tenant: "two", cluster: undefined, roles: [] },
  ];
  expect(await identify({ certificate: CERTIFICATE }, tenants({ certificates: rules }))).toMatchObject({ tenant: "one", cluster: "eu-1" });
  expect(await identify({ certificate: CERTIFICATE }, tenants({ certificates: rules.toReversed() }))).toMatchObject({
    tenant: "two",
    roles: [],
  });
  expect(await identify({ certificate: CERTIFICATE }, tenants({ certificates: [] }))).toMatchObject({
    tenant: "",
    roles: [],
    isAuthenticated: true,
  });
});

test("who is known at once is answered without a promise: by certificate, token, key, header, a token seen before, or nothing", () => {
  const shown: readonly Showing[] = [
    {},
    { certificate: CERTIFICATE },
    { headers: BEARER },
    { headers: KEY },
    { headers: HEADER, address: PROXY },
    { headers: { authorization: "Bearer seen" } },
  ];
  for (const showing of shown) expect(identify(showing)).not.toBeInstanceOf(Promise);
  expect(identify({ headers: { authorization: `Bearer ${SIGNED}` } })).toBeInstanceOf(Promise);
});

test("without an issuer a token that no credential matches is not known", () => {
  expect(() => identify({ headers: { authorization: `Bearer ${SIGNED}` } }, tenants({ tokens: undefined }))).toThrow(
    "token is unknown on this node",
  );
});

test("a token counts until its end, and the operator token counts only on the node's own machine", () => {
  const ending = { ...credential("bearer", "ending", { untilWallMs: 1000 }) };
  const local = { ...credential("bearer", "local", { roles: ["mesh.admin"] }), isLocal: true as const };
  let wallMs = 1000;
  const table = tenants({ credentials: [ending, local], wallMs: () => wallMs });
  const ask = (token: string, address: string) =>
    table.identify((name) => (name === "authorization" ? `Bearer ${token}` : undefined), { address, certificate: undefined });
  expect(ask("ending", ELSEWHERE)).toMatchObject({ principal: "ending" });
  wallMs = 1001;
  expect(() => ask("ending", ELSEWHERE)).toThrow(/token has expired/);
  expect(ask("local", "127.0.0.1")).toMatchObject({ roles: ["mesh.admin"] });
  expect(() => ask("local", ELSEWHERE)).toThrow(/only from the node's own machine/);
});

test("a revoked certificate identifies nobody, also where a certificate only permits the connection", () => {
  const shown: PeerCertificate = {
    ...CERTIFICATE,
    alternativeNames: "URI:spiffe://d/waymark/cluster/eu/client/web",
    issuer: "O=Waymark\nOU=eu\nserialNumber=k",
  };
  const peer = { address: ELSEWHERE, certificate: shown };
  for (const areCertificatesIdentities of [true, false]) {
    const by = (revocations: TenantOptions["revocations"]) => () =>
      tenants({ areCertificatesIdentities, revocations }).identify(() => undefined, peer);
    expect(by(NO_REVOCATIONS)).not.toThrow();
    expect(by({ ...NO_REVOCATIONS, names: new Map([["eu/client/web", 9e15]]) })).toThrow(/certificate of client web was revoked/);
    expect(by({ ...NO_REVOCATIONS, issuers: new Set(["eu/k"]) })).toThrow(/issuer of this certificate was revoked/);
  }
});
