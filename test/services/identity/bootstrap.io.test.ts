/** BootstrapService of an issuer, over the real authority and a store in a map. */
import { X509Certificate } from "node:crypto";
import type { DescMessage, DescMethodUnary, MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { BootstrapService, IdentityRole } from "../../../gen/waymark/control/v1/bootstrap_pb.js";
import { TrustCopy } from "../../../src/control/identity/trust.ts";
import { revocationOf } from "../../../src/lib/certificates/revocations.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { requiredAccessOf } from "../../../src/services/contract.ts";
import { joinRequest, renewalRequest, TestKey } from "../../fakes/identity.ts";
import { IdentityServices, LEAF_TTL_MS, NOW_MS } from "../../fakes/identity-services.ts";

const { createToken, listTokens, revokeToken, issue, listIdentities, authority, revoke } = BootstrapService.method;
const HOUR_MS = 3_600_000;
const CLIENT = IdentityRole.CLIENT;

test("a token is shown once, listed without its secret, and can be revoked", async () => {
  const on = new IdentityServices();
  const { token, info } = await on.call(createToken, { name: "eu-2", ttl: durationFromMs(600_000) });
  expect(info).toMatchObject({
    id: token.split(".")[2],
    role: IdentityRole.NODE,
    name: "eu-2",
    uses: 1,
    used: 0,
    createdBy: "ann",
    createdAt: timestampFromMs(NOW_MS),
    expiresAt: timestampFromMs(NOW_MS + 600_000),
  });
  const admitted = await on.authority.join(joinRequest(token, "eu-2", new TestKey()), NOW_MS);
  // The message has no field for the secret.
  expect((await on.call(listTokens, {})).tokens).toEqual([{ ...info, used: 1 }]);
  expect(await on.call(revokeToken, { tokenId: info?.id ?? "" })).toEqual({
    $typeName: "waymark.control.v1.BootstrapServiceRevokeTokenResponse",
  });
  expect((await on.call(listTokens, {})).tokens).toEqual([]);
  expect(on.operations).toEqual([
    {
      action: "identity.create_token",
      requestId: "r-1",
      nodeId: "",
      refusal: "",
      detail: "role=node name=eu-2 uses=1 ttl_s=600",
    },
    { action: "identity.revoke_token", requestId: "r-1", nodeId: "", refusal: "", detail: `token=${info?.id}` },
  ]);
  expect(admitted.record.tokenId).toBe(info?.id);
});

test("without choices, a token admits one node for an hour", async () => {
  const { info } = await new IdentityServices().call(createToken, {});
  expect(info).toMatchObject({ role: IdentityRole.NODE, name: "", uses: 1, expiresAt: timestampFromMs(NOW_MS + HOUR_MS) });
});

test("a certificate for a program has the names and the end that the administrator decides", async () => {
  const on = new IdentityServices();
  const key = new TestKey();
  await on.authority.announce("eu-1:17421", NOW_MS);
  const terms = { role: CLIENT, name: "billing", publicKey: key.publicKey, dnsNames: ["billing.example"], ttl: durationFromMs(120_000) };
  const { certificates, roots, identity } = await on.call(issue, terms);
  expect(identity).toMatchObject({
    role: CLIENT,
    name: "billing",
    keyHash: key.digest,
    dnsNames: ["billing.example"],
    issuer: "eu-1",
    tokenId: "",
    issuedAt: timestampFromMs(NOW_MS),
    expiresAt: timestampFromMs(NOW_MS + 120_000),
    revoked: false,
  });
  const names = "URI:spiffe://waymark.test/waymark/cluster/eu/client/billing, DNS:billing.example";
  expect(new X509Certificate(certificates).subjectAltName).toBe(names);
  expect(roots).toBe(on.root.certificate);
  const { identity: second } = await on.call(issue, { role: IdentityRole.RESOLVER, name: "billing", publicKey: key.publicKey });
  expect(second?.expiresAt).toEqual(timestampFromMs(NOW_MS + LEAF_TTL_MS));
  const recorded = on.operations.map(({ action, detail, refusal }) => [action, detail, refusal]);
  expect(recorded).toEqual([
    ["identity.issue", "role=client name=billing", ""],
    ["identity.issue", "role=resolver name=billing", ""],
  ]);
});

test("identities are listed by role and name, in pages", async () => {
  const on = new IdentityServices();
  for (const role of [IdentityRole.RESOLVER, CLIENT])
    for (const name of ["b", "a"]) await on.call(issue, { role, name, publicKey: new TestKey().publicKey });
  const listed = (page: MessageInitShape<typeof listIdentities.input>) => on.call(listIdentities, page);
  const first = await listed({ limit: 3 });
  const second = await listed({ limit: 3, pageToken: first.nextPageToken });
  expect([...first.identities, ...second.identities].map(({ role, name }) => `${IdentityRole[role]} ${name}`)).toEqual([
    "CLIENT a",
    "CLIENT b",
    "RESOLVER a",
    "RESOLVER b",
  ]);
  expect(second.nextPageToken).toBe("");
  expect((await listed({ role: CLIENT })).identities.map(({ name }) => name)).toEqual(["a", "b"]);
  await expect(listed({ role: CLIENT, pageToken: first.nextPageToken })).rejects.toThrow(/page_token/);
});

test("the authority has its roots and its issuers", async () => {
  const on = new IdentityServices();
  expect(await on.call(authority, {})).toMatchObject({ roots: [], issuers: [] });
  await on.authority.announce("eu-1:17421", NOW_MS);
  const rootHash = on.root.key.digest;
  expect(await on.call(authority, {})).toMatchObject({
    roots: [on.root.certificate],
    issuers: [{ nodeId: "eu-1", address: "eu-1:17421", rootHash, expiresAt: timestampFromMs(NOW_MS + 24 * HOUR_MS) }],
  });
});

const PUBLIC_KEY = new TestKey().publicKey;

test.each([
  { what: "a DNS name of an issuer", ask: { dnsNames: ["a.example", "6575.issuer.waymark"] }, want: "dns_names[1]: names under waymark" },
  { what: "a DNS name of a border", ask: { dnsNames: ["6575.border.WAYMARK"] }, want: "dns_names[0]: names under waymark" },
  { what: "the DNS name waymark", ask: { dnsNames: ["waymark"] }, want: "dns_names[0]: names under waymark" },
  { what: "a pattern of such DNS names", ask: { dnsNames: ["*.waymark"] }, want: "dns_names[0]: names under waymark" },
  { what: "17 DNS names", ask: { dnsNames: Array.from({ length: 17 }, (_, at) => `n${at}`) }, want: "dns_names" },
  { what: "a name with a slash", ask: { name: "a/b" }, want: "name" },
  { what: "the name ..", ask: { name: ".." }, want: "name: must have 1 to 64 of" },
])("neither a token nor a certificate can have $what", async ({ ask, want }) => {
  const on = new IdentityServices();
  const refusal = new RegExp(`^invalid_argument: .*${RegExp.escape(want)}`);
  await expect(on.call(createToken, ask)).rejects.toThrow(refusal);
  await expect(on.call(issue, { role: CLIENT, name: "a", publicKey: PUBLIC_KEY, ...ask })).rejects.toThrow(refusal);
  expect(on.store.map.list("").items).toEqual([]);
});

/** A call, whatever the type of its request. */
function callOf<I extends DescMessage, O extends DescMessage>(rpc: DescMethodUnary<I, O>, ask: MessageInitShape<I>) {
  return { rpc: rpc.localName, role: requiredAccessOf(rpc)?.role, call: (on: IdentityServices): Promise<unknown> => on.call(rpc, ask) };
}

test.each([
  { what: "two uses of one name", ...callOf(createToken, { name: "a", uses: 2 }), want: "uses: a token for a can be used once" },
  { what: "more than 30 days", ...callOf(createToken, { ttl: durationFromMs(31 * 24 * HOUR_MS) }), want: "ttl" },
  { what: "a node's certificate", ...callOf(issue, { role: IdentityRole.NODE, name: "a" }), want: "role: must be client or resolver" },
  { what: "no role", ...callOf(issue, { name: "a" }), want: "role" },
  { what: "no key", ...callOf(issue, { role: CLIENT, name: "a" }), want: "public_key: must be a public key" },
  { what: "a second", ...callOf(issue, { role: CLIENT, name: "a", ttl: durationFromMs(1000) }), want: "ttl" },
  { what: "no id", ...callOf(revokeToken, { tokenId: "eu-1" }), want: "token_id" },
])("$rpc with $what is refused", async ({ call, want }) => {
  const on = new IdentityServices();
  await expect(call(on)).rejects.toThrow(new RegExp(`^invalid_argument: .*${RegExp.escape(want)}`));
  expect(on.store.map.list("").items).toEqual([]);
});

const CALLS = [
  callOf(createToken, {}),
  callOf(listTokens, {}),
  callOf(revokeToken, { tokenId: "eu:1" }),
  callOf(issue, { role: CLIENT, name: "a", publicKey: PUBLIC_KEY }),
  callOf(listIdentities, {}),
  callOf(authority, {}),
];

test.each(CALLS)("a node that is no issuer refuses $rpc, and names the issuers", async ({ call }) => {
  const alone = new IdentityServices({ isIssuer: false });
  await expect(call(alone)).rejects.toThrow(/^wrong_node: this node issues no certificates; make an issuer with "waymark ca init"/);
  const on = new IdentityServices({ isIssuer: false, issuers: ["eu-1:17421", "eu-2:17421"] });
  const refusal = { reason: "wrong_node", details: { metadata: { addresses: "eu-1:17421 eu-2:17421" } } };
  await expect(call(on)).rejects.toMatchObject(refusal);
  expect(on.operations).toEqual([]);
});

test("lists of identities and issuers need mesh.read, and all other calls mesh.admin", () => {
  expect(CALLS.map(({ rpc, role }) => [rpc, role])).toEqual(
    CALLS.map(({ rpc }) => [rpc, rpc === "listIdentities" || rpc === "authority" ? "mesh.read" : "mesh.admin"]),
  );
});

test("a name without a record is revoked only with force, after the store was lost", async () => {
  const on = new IdentityServices();
  const asked = { name: "eu-7", reason: "stolen" };
  await expect(on.call(revoke, asked)).rejects.toThrow(/^not_found: name: no certificate is on record for the node eu-7/);
  expect(on.store.map.list("trust/revocations/").items).toEqual([]);
  await on.call(revoke, { ...asked, force: true });
  const copy = new TrustCopy("eu");
  copy.apply(on.store.map.list("trust/").items);
  expect(copy.revocations.names).toEqual(new Map([["eu/node/eu-7", NOW_MS]]));
  on.wallMs += 90 * 24 * HOUR_MS;
  await on.authority.removeEnded(on.wallMs);
  expect(on.store.map.list("trust/revocations/").items).toHaveLength(1);
  await on.authority.removeEnded(on.wallMs + HOUR_MS);
  expect(on.store.map.list("trust/revocations/").items).toEqual([]);
});

test("an act that is refused or whose outcome is unknown is recorded too", async () => {
  const on = new IdentityServices();
  await expect(on.call(revokeToken, { tokenId: "eu:1" })).rejects.toThrow(/^not_found/);
  on.store.request = () => Promise.reject(new WaymarkError("store_unavailable", "away"));
  await expect(on.call(createToken, {})).rejects.toThrow(/^store_unavailable/);
  await expect(on.call(issue, { role: CLIENT, name: "a", publicKey: PUBLIC_KEY })).rejects.toThrow(/^store_unavailable/);
  expect(on.operations.map(({ action, refusal, detail }) => [action, refusal, detail])).toEqual([
    ["identity.revoke_token", "not_found", "token=eu:1; not_found: token_id: there is no token eu:1"],
    ["identity.create_token", "", "role=node name= uses=1 ttl_s=3600; the outcome is unknown"],
    ["identity.issue", "", "role=client name=a; the outcome is unknown"],
  ]);
});

test("a revoked node cannot renew, its certificates do not count, and only a token for its name lets it return with a new key", async () => {
  const on = new IdentityServices();
  const [old, next] = [new TestKey(), new TestKey()];
  const tokenFor = async () => (await on.call(createToken, { name: "eu-2" })).token;
  await on.authority.join(joinRequest(await tokenFor(), "eu-2", old), NOW_MS);
  expect(await on.call(revoke, { name: "eu-2", reason: "stolen" })).toMatchObject({ wasIssuer: false });
  expect((await on.call(listIdentities, {})).identities).toMatchObject([{ name: "eu-2", revoked: true }]);
  await expect(on.authority.renew(renewalRequest("eu", { role: "node", name: "eu-2" }, old, next), NOW_MS)).rejects.toThrow(
    /eu-2 was revoked/,
  );
  await expect(on.authority.join(joinRequest(await tokenFor(), "eu-2", old), NOW_MS)).rejects.toThrow(/the key of eu-2 was revoked/);
  const again = await on.authority.join(joinRequest(await tokenFor(), "eu-2", next), NOW_MS);
  const copy = new TrustCopy("eu");
  copy.apply(on.store.map.list("").items);
  const shown = (pem: string) => {
    const { subjectAltName = "", issuer, validFromDate } = new X509Certificate(pem);
    return revocationOf({ subjectAltName, issuer, validFromWallMs: validFromDate.getTime() }, copy.revocations);
  };
  expect(shown(again.chain)).toBeUndefined();
  expect(on.operations.find(({ action }) => action === "identity.revoke")).toMatchObject({
    nodeId: "eu-2",
    detail: "role=node name=eu-2 stolen",
  });
});

test("an issuer that is revoked loses its issuing key too, and cannot announce itself again; no issuer revokes itself", async () => {
  const on = new IdentityServices();
  const other = on.authorityOf("eu-9");
  await on.authority.announce("eu-1:1", NOW_MS);
  await other.announce("eu-9:1", NOW_MS);
  await other.issueOwn(new TestKey().publicKey, [], HOUR_MS, NOW_MS);
  expect(await on.call(revoke, { name: "eu-9", reason: "stolen" })).toMatchObject({ wasIssuer: true });
  expect((await on.call(authority, {})).issuers.map(({ nodeId }) => nodeId)).toEqual(["eu-1"]);
  await expect(other.announce("eu-9:1", NOW_MS)).rejects.toThrow(/this issuer was revoked/);
  await expect(other.issueOwn(new TestKey().publicKey, [], HOUR_MS, NOW_MS)).rejects.toThrow(/this issuer was revoked/);
  await expect(on.call(revoke, { name: "eu-1", reason: "mistake" })).rejects.toThrow(/an issuer cannot revoke itself/);
  await expect(on.call(revoke, { name: "nobody", reason: "?" })).rejects.toThrow(/not_found/);
});

test("a revocation is removed when all certificates that it concerns have ended", async () => {
  const on = new IdentityServices();
  await on.authority.join(joinRequest((await on.call(createToken, { name: "eu-2" })).token, "eu-2", new TestKey()), NOW_MS);
  await on.call(revoke, { name: "eu-2", reason: "stolen" });
  const left = () => on.store.map.list("trust/revocations/").items.length;
  await on.authority.removeEnded(NOW_MS + LEAF_TTL_MS);
  expect(left()).toBe(1);
  await on.authority.removeEnded(NOW_MS + LEAF_TTL_MS + HOUR_MS);
  expect(left()).toBe(0);
});
