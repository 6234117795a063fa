/** The authority over a store in a map: its records, lists and refusals. Concurrent requests and lost answers are in `test/sim/joins.ts`. */
import { X509Certificate } from "node:crypto";
import { expect, test } from "vitest";
import { Authority, type TokenTerms } from "../../../src/control/identity/authority.io.ts";
import { decodeName, encodeIdentity, nameKey, nameOfKey } from "../../../src/control/identity/records.ts";
import type { JoinRequest } from "../../../src/control/identity/requests.ts";
import { TrustCopy } from "../../../src/control/identity/trust.ts";
import { joinRequest, renewalRequest, TestKey, TestRoot } from "../../fakes/identity.ts";
import { MapStore } from "../../fakes/map-store.ts";

const NOW_MS = 1_760_000_000_000;
const [HOUR_MS, DAY_MS] = [3_600_000, 86_400_000];
const TERMS: TokenTerms = { role: "node", name: "", dnsNames: [], uses: 1, createdBy: "admin", ttlMs: HOUR_MS };

function opened({ store = new MapStore(), root = new TestRoot(NOW_MS), clusterId = "eu", nodeId = "eu-1" } = {}) {
  const issuer = root.issuer(nodeId, clusterId);
  const authority = new Authority({ store, issuer, leafTtlMs: 12 * HOUR_MS, renewAfterEndMs: DAY_MS });
  const token = async (terms: Partial<TokenTerms> = {}) => (await authority.createToken({ ...TERMS, ...terms }, NOW_MS)).token;
  return { store, root, issuer, authority, token };
}

test("a newcomer gets a certificate with the role, the names and the key that its token and its request decide", async () => {
  const { authority, token, store } = opened();
  const key = new TestKey();
  const text = await token({ role: "resolver", dnsNames: ["r.example"] });
  const made = await authority.join(joinRequest(text, "r-1", key), NOW_MS);
  const read = new X509Certificate(made.chain);
  expect(read.subjectAltName).toBe("URI:spiffe://waymark.test/waymark/cluster/eu/resolver/r-1, DNS:r.example");
  expect(read.publicKey.export({ format: "der", type: "spki" })).toEqual(Buffer.from(key.publicKey));
  const record = {
    keyDigest: key.digest,
    earlierKeys: [],
    dnsNames: ["r.example"],
    issuer: "eu-1",
    tokenId: text.split(".")[2],
    madeWallMs: NOW_MS,
    expiresWallMs: NOW_MS + 12 * HOUR_MS,
    isRevoked: false,
  };
  expect((await authority.identities()).found).toMatchObject([{ role: "resolver", name: "r-1", record }]);
  expect((await authority.tokens(NOW_MS)).map((each) => each.record)).toMatchObject([{ used: 1, uses: 1, createdBy: "admin" }]);
  // The store has neither the secret of the token nor a private key.
  const stored = store.map
    .list("")
    .items.map(({ value }) => Buffer.from(value).toString())
    .join("\n");
  expect(stored).not.toContain(text.split(".")[3]);
  expect(stored).not.toContain("PRIVATE KEY");
});

test("no certificate outlives its issuer", async () => {
  const { authority, token, issuer } = opened();
  const text = await token({ ttlMs: 30 * DAY_MS });
  const { record } = await authority.join(joinRequest(text, "a", new TestKey()), issuer.facts.notAfterWallMs - HOUR_MS);
  expect(record.expiresWallMs).toBe(issuer.facts.notAfterWallMs);
});

test.each<{ readonly what: string; readonly change: (request: JoinRequest) => JoinRequest; readonly want: RegExp }>([
  { what: "no token", change: (asked) => ({ ...asked, token: "x" }), want: /invalid_argument: token: must be the line/ },
  { what: "no key", change: (asked) => ({ ...asked, publicKey: new Uint8Array(91) }), want: /invalid_argument: public_key: must be/ },
  { what: "a point that is not on the curve", change: offCurve, want: /invalid_argument: public_key: must be/ },
  { what: "no signature", change: (asked) => ({ ...asked, signature: new Uint8Array() }), want: /public_key: its private key/ },
  { what: "another name than was signed", change: (asked) => ({ ...asked, name: "b" }), want: /public_key: its private key/ },
  { what: "the key of another program", change: (asked) => ({ ...asked, publicKey: new TestKey().publicKey }), want: /its private key/ },
])("a request with $what changes nothing", async ({ change, want }) => {
  const { authority, token, store } = opened();
  const request = joinRequest(await token(), "a", new TestKey());
  const before = store.map.list("");
  await expect(authority.join(change(request), NOW_MS)).rejects.toThrow(want);
  expect(store.map.list("")).toEqual(before);
});

function offCurve(request: JoinRequest): JoinRequest {
  const publicKey = Uint8Array.from(request.publicKey);
  publicKey[90] = (publicKey[90] ?? 0) ^ 1;
  return { ...request, publicKey };
}

test("a token for any name needs a name, and a token for one name decides it", async () => {
  const { authority, token } = opened();
  await expect(authority.join(joinRequest(await token(), "", new TestKey()), NOW_MS)).rejects.toThrow(/invalid_argument: name: must have/);
  expect(await authority.join(joinRequest(await token({ name: "b" }), "", new TestKey()), NOW_MS)).toMatchObject({
    role: "node",
    name: "b",
  });
});

test("without the secret, no answer shows whether a token exists and what it decides", async () => {
  const { authority, token } = opened();
  const texts = [await token(), await token({ name: "b" }), (await token()).replace(/:[0-9a-f]{4}/, ":0000")];
  for (const text of texts) {
    const request = joinRequest(`${text.slice(0, -4)}AAAA`, "", new TestKey());
    await expect(authority.join(request, NOW_MS)).rejects.toMatchObject({ details: { metadata: { problem: "token_unknown" } } });
  }
});

test.each([".", "..", "a/b", "", "x".repeat(65)])(
  "no token and no certificate is made for the name %j, which no SPIFFE id can have",
  async (name) => {
    const { authority, token, store } = opened();
    const terms = { role: "client", name, publicKey: new TestKey().publicKey, dnsNames: [], ttlMs: HOUR_MS } as const;
    await expect(authority.issue(terms, NOW_MS)).rejects.toThrow(/invalid_argument: name: must have 1 to 64 of/);
    if (name !== "") await expect(token({ name })).rejects.toThrow(/invalid_argument: name: must have 1 to 64 of/);
    expect(store.map.list("").items).toEqual([]);
  },
);

test("a token is refused by the issuers of other clusters, of which one may have the same store", async () => {
  const { token, store, root } = opened();
  const { authority } = opened({ store, root, clusterId: "us", nodeId: "us-1" });
  const refusal = { reason: "discovery_access_denied", details: { metadata: { problem: "token_wrong_cluster" } } };
  await expect(authority.join(joinRequest(await token(), "a", new TestKey()), NOW_MS)).rejects.toMatchObject(refusal);
});

test("both keys sign a renewal, for this cluster and role", async () => {
  const { authority, token, store } = opened();
  const [key, next] = [new TestKey(), new TestKey()];
  const { record } = await authority.join(joinRequest(await token(), "a", key), NOW_MS);
  const asked = renewalRequest("eu", { role: "node", name: "a" }, key, next);
  const before = store.map.list("");
  for (const wrong of [
    { ...asked, signature: asked.newSignature },
    { ...asked, newSignature: asked.signature },
    { ...asked, role: "client" } as const,
    { ...asked, name: "b" },
    { ...asked, newPublicKey: new TestKey().publicKey },
    renewalRequest("us", { role: "node", name: "a" }, key, next),
  ])
    await expect(authority.renew(wrong, NOW_MS)).rejects.toThrow(/invalid_argument: (new_)?public_key: its private key/);
  expect(store.map.list("")).toEqual(before);
  const renewed = await authority.renew(asked, NOW_MS + HOUR_MS);
  const times = { madeWallMs: NOW_MS + HOUR_MS, expiresWallMs: NOW_MS + 13 * HOUR_MS };
  const { issuer, tokenId } = record;
  expect(renewed.record).toMatchObject({ issuer, tokenId, ...times, keyDigest: next.digest, earlierKeys: [key.digest] });
  expect(new X509Certificate(renewed.chain).publicKey.export({ format: "der", type: "spki" })).toEqual(Buffer.from(next.publicKey));
});

test("an administrator decides who has a name, and its former holder loses it", async () => {
  const { authority, token } = opened();
  const [key, other] = [new TestKey(), new TestKey()];
  await authority.join(joinRequest(await token({ role: "client" }), "billing", key), NOW_MS);
  const terms = { role: "client", name: "billing", publicKey: other.publicKey, dnsNames: ["billing.example"], ttlMs: HOUR_MS } as const;
  const { record } = await authority.issue(terms, NOW_MS);
  expect(record).toMatchObject({ keyDigest: other.digest, earlierKeys: [key.digest], tokenId: "", expiresWallMs: NOW_MS + HOUR_MS });
  const renewal = renewalRequest("eu", terms, key, new TestKey());
  await expect(authority.renew(renewal, NOW_MS)).rejects.toMatchObject({ details: { metadata: { problem: "key_copied" } } });
  await expect(authority.issue({ ...terms, publicKey: new Uint8Array() }, NOW_MS)).rejects.toThrow(/invalid_argument: public_key/);
});

test("tokens are listed without their secrets until a day after their end", async () => {
  const { authority, token } = opened();
  await token({ ttlMs: HOUR_MS });
  await token({ ttlMs: 2 * HOUR_MS, name: "b" });
  const listed = async (wallMs: number) => (await authority.tokens(wallMs)).map(({ record }) => record.name);
  expect(await listed(NOW_MS + HOUR_MS + DAY_MS)).toEqual(["", "b"]);
  expect(await listed(NOW_MS + HOUR_MS + DAY_MS + 1)).toEqual(["b"]);
  expect(await listed(NOW_MS)).toEqual(["b"]);
});

test("a revoked token admits no program, and those that it has admitted renew", async () => {
  const { authority, token } = opened();
  const text = await token({ uses: 2 });
  const [id = "", key] = [text.split(".")[2], new TestKey()];
  await authority.join(joinRequest(text, "a", key), NOW_MS);
  await authority.revokeToken(id);
  const problem = { details: { metadata: { problem: "token_unknown" } } };
  await expect(authority.join(joinRequest(text, "b", new TestKey()), NOW_MS)).rejects.toMatchObject(problem);
  await expect(authority.revokeToken(id)).rejects.toMatchObject({ reason: "not_found" });
  await authority.renew(renewalRequest("eu", { role: "node", name: "a" }, key, new TestKey()), NOW_MS);
});

test("the first issuer publishes its root, and an issuer with another root publishes nothing", async () => {
  const { authority, store, root } = opened();
  await authority.announce("eu-1:17421", NOW_MS);
  const second = opened({ store, root, nodeId: "eu-2" });
  await second.authority.announce("eu-2:17421", NOW_MS);
  await second.authority.announce("eu-2:17422", NOW_MS);
  const copy = new TrustCopy("eu");
  const items = store.map.list("trust/").items;
  copy.apply(items);
  expect(copy.roots).toBe(root.certificate);
  expect(copy.issuers.map(({ nodeId, address, rootKey }) => `${nodeId} ${address} ${rootKey}`).toSorted()).toEqual([
    `eu-1 eu-1:17421 ${root.key.digest}`,
    `eu-2 eu-2:17422 ${root.key.digest}`,
  ]);
  const stranger = opened({ store, nodeId: "eu-3" });
  await expect(stranger.authority.announce("eu-3:17421", NOW_MS)).rejects.toThrow(/the root of this issuer is not published/);
  expect(store.map.list("trust/").items).toEqual(items);
});

test("there is a bound for join tokens", async () => {
  const { authority, store, token } = opened();
  await token();
  const [first] = store.map.list("identity/tokens/").items;
  for (let i = 1; i < 10_000; i++) store.map.transact([], [{ key: `identity/tokens/eu:${i}`, value: first?.value }]);
  await expect(token()).rejects.toMatchObject({ reason: "quota_exceeded" });
  await authority.revokeToken("eu:1");
  await token();
});

test("a certificate that an administrator issued for some time cannot be renewed, and one that a token admitted can", async () => {
  const { authority, token } = opened();
  for (const role of ["client", "resolver"] as const) {
    const [key, next] = [new TestKey(), new TestKey()];
    const name = { role, name: "billing" };
    await authority.issue({ ...name, publicKey: key.publicKey, dnsNames: [], ttlMs: 60_000 }, NOW_MS);
    const refused = { details: { metadata: { problem: "join_denied" } } };
    await expect(authority.renew(renewalRequest("eu", name, key, next), NOW_MS)).rejects.toMatchObject(refused);
    const joined = { role, name: "joined" };
    await authority.join(joinRequest(await token({ role }), "joined", key), NOW_MS);
    expect((await authority.renew(renewalRequest("eu", joined, key, next), NOW_MS)).record.keyDigest).toBe(next.digest);
  }
});

test("names are listed page by page, and are removed 30 days after nobody can renew them", async () => {
  const { authority, token } = opened();
  for (const name of ["a", "b", "c"]) await authority.join(joinRequest(await token(), name, new TestKey()), NOW_MS);
  const namesOf = async (after = "", limit = 2) => {
    const { found, nextAfter } = await authority.identities("node", { after, limit });
    return { names: found.map(({ name }) => name), nextAfter };
  };
  const first = await namesOf();
  expect([first.names, await namesOf(first.nextAfter)]).toEqual([["a", "b"], { names: ["c"], nextAfter: undefined }]);
  expect((await authority.identities("client")).found).toEqual([]);
  const lastMs = NOW_MS + 12 * HOUR_MS + DAY_MS + 30 * DAY_MS;
  await authority.removeEnded(lastMs);
  expect((await namesOf("", 9)).names).toEqual(["a", "b", "c"]);
  await authority.removeEnded(lastMs + 1);
  expect((await namesOf("", 9)).names).toEqual([]);
});

test("a record that cannot be read admits no program, and lists omit it", async () => {
  const { authority, store, token } = opened();
  const key = nameKey({ role: "node", name: "a" });
  store.map.transact([], [{ key, value: encodeIdentity({ keyDigest: "k" }) }]);
  await expect(authority.join(joinRequest(await token(), "a", new TestKey()), NOW_MS)).rejects.toThrow(/cannot be read; remove it/);
  expect((await authority.identities()).found).toEqual([]);
  expect(decodeName(Buffer.from("{}"))).toBeUndefined();
  expect([nameOfKey(key), nameOfKey("identity/names/admin/a"), nameOfKey("identity/names/node")]).toEqual([
    { role: "node", name: "a" },
    undefined,
    undefined,
  ]);
});
