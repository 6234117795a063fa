/** JoinService of an issuer, over the real authority and a store in a map. */
import { X509Certificate } from "node:crypto";
import { fromBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { BootstrapService, IdentityRole } from "../../../gen/waymark/control/v1/bootstrap_pb.js";
import { JoinService, JoinServiceFollowResponseSchema } from "../../../gen/waymark/control/v1/join_pb.js";
import { TrustCopy } from "../../../src/control/identity/trust.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { requiredAccessOf } from "../../../src/services/contract.ts";
import { joinRequest, renewalRequest, TestKey } from "../../fakes/identity.ts";
import { IdentityServices, NOW_MS } from "../../fakes/identity-services.ts";

const { join, renew } = JoinService.method;
const NAME = { role: "node", name: "eu-2" } as const;

async function admitted() {
  const on = new IdentityServices();
  await on.authority.announce("eu-1:17421", NOW_MS);
  const { token } = await on.call(BootstrapService.method.createToken, { name: "eu-2" });
  const key = new TestKey();
  const request = joinRequest(token, "", key);
  // The token decides the name, which the request need not have.
  const answer = await on.call(join, request);
  on.operations.shift();
  return { on, token, key, request, answer };
}

/** A renewal as a message. */
function renewal(key: TestKey, next: TestKey) {
  return { ...renewalRequest("eu", NAME, key, next), role: IdentityRole.NODE };
}

test("a newcomer gets its certificate, the roots, and the issuers at which it can renew", async () => {
  const { on, key, answer, request, token } = await admitted();
  const id = token.split(".")[2];
  const copy = new TrustCopy("eu");
  copy.apply(answer.records);
  expect(copy).toMatchObject({ roots: on.root.certificate, issuers: [{ nodeId: "eu-1", address: "eu-1:17421" }] });
  expect(new X509Certificate(answer.certificates).subjectAltName).toBe("URI:spiffe://waymark.test/waymark/cluster/eu/node/eu-2");
  expect(await on.call(join, request)).toMatchObject({ records: answer.records });
  const record = { action: "identity.join", requestId: "r-1", nodeId: "eu-2", refusal: "" };
  const detail = `role=node name=eu-2 key=${key.digest} token=${id}`;
  expect(on.operations).toEqual([
    { ...record, detail },
    { ...record, detail },
  ]);
  expect(on.requests).toEqual(["join", "join"]);
});

test("a certificate is renewed for a new key, and the old key is an alarm", async () => {
  const { on, key } = await admitted();
  const next = new TestKey();
  const { certificates } = await on.call(renew, renewal(key, next));
  const read = new X509Certificate(certificates);
  expect(read.publicKey.export({ format: "der", type: "spki" })).toEqual(Buffer.from(next.publicKey));
  expect(on.operations.at(-1)).toMatchObject({ action: "identity.renew", nodeId: "eu-2", refusal: "" });
  const refusal = { reason: "discovery_access_denied", details: { metadata: { problem: "key_copied" } } };
  await expect(on.call(renew, renewal(key, new TestKey()))).rejects.toMatchObject(refusal);
  expect(on.operations.at(-1)).toMatchObject({ action: "identity.renew", nodeId: "", refusal: "key_copied" });
  expect(on.operations.at(-1)?.detail).toMatch(/^name=eu-2 discovery_access_denied: public_key: eu-2 has renewed this key already/);
  expect(on.requests).toEqual(["join", "renew", "renew key_copied"]);
});

test("a refused newcomer is recorded and counted with the problem", async () => {
  const { on, token } = await admitted();
  const ask = (text: string, name: string) => on.call(join, joinRequest(text, name, new TestKey())).catch(() => {});
  await ask(token, "eu-2");
  await ask(token, "eu-3");
  await ask(token.replace(".eu:", ".us:"), "eu-2");
  await ask(`${token.slice(0, -4)}AAAA`, "eu-2");
  on.wallMs = NOW_MS + 3_600_000;
  await ask(token, "eu-2");
  const problems = ["token_spent", "join_denied", "token_wrong_cluster", "token_unknown", "token_expired"];
  expect(on.operations.slice(1).map(({ refusal }) => refusal)).toEqual(problems);
  expect(on.requests.slice(1)).toEqual(problems.map((problem) => `join ${problem}`));
  // No record has the secret of a token.
  expect(JSON.stringify(on.operations)).not.toContain(token.split(".")[3]);
});

test("a request that nobody signed is refused by its field, and recorded", async () => {
  const { on, key, request } = await admitted();
  await expect(on.call(join, { ...request, signature: new Uint8Array() })).rejects.toThrow(/^invalid_argument: public_key/);
  const unsigned = { ...renewal(key, new TestKey()), newSignature: new Uint8Array(8) };
  await expect(on.call(renew, unsigned)).rejects.toThrow(/^invalid_argument: new_public_key/);
  await expect(on.call(renew, { ...unsigned, role: IdentityRole.UNSPECIFIED })).rejects.toThrow(/^invalid_argument: role/);
  await expect(on.call(join, { ...request, token: "x".repeat(513) })).rejects.toThrow(/^invalid_argument: token/);
  expect(on.requests.slice(1)).toEqual(["join invalid_argument", "renew invalid_argument"]);
  expect(on.operations.slice(1).map(({ refusal }) => refusal)).toEqual(["invalid_argument", "invalid_argument"]);
});

test("without the store, the outcome of a request is unknown, and no refusal is recorded", async () => {
  const { on, key } = await admitted();
  on.store.request = () => Promise.reject(new WaymarkError("store_unavailable", "away"));
  await expect(on.call(renew, renewal(key, new TestKey()))).rejects.toThrow(/^store_unavailable/);
  expect(on.operations.at(-1)).toMatchObject({ action: "identity.renew", refusal: "", detail: "name=eu-2 store_unavailable: away" });
});

test.each(["anonymous", "spiffe://waymark.test/waymark/cluster/eu/client/billing"])(
  "the caller %s cannot follow, and is recorded",
  (principal) => {
    const on = new IdentityServices();
    expect(() => on.follow(principal)).toThrow(/^unauthenticated: Follow needs the certificate of a node or resolver/);
    expect(on.operations).toEqual([{ action: "identity.follow", requestId: "r-1", nodeId: "", refusal: "unauthenticated", detail: "" }]);
    for (const role of ["node", "resolver"]) on.follow(`spiffe://waymark.test/waymark/cluster/eu/${role}/x`);
    expect(on.operations.length).toBe(1);
  },
);

test("a node with a certificate of a revoked issuer gets the revocations once, in addition to what it has", async () => {
  const { on } = await admitted();
  await on.call(BootstrapService.method.revoke, { name: "eu-2", reason: "stolen" });
  const stream = on.follow("spiffe://waymark.test/waymark/cluster/eu/node/x", false);
  let ends = 0;
  stream.attach(
    () => {},
    () => (ends += 1),
  );
  const bytes = stream.pull({ monoMs: 0, wallMs: NOW_MS }) ?? new Uint8Array();
  const { reset, complete, changes } = fromBinary(JoinServiceFollowResponseSchema, bytes);
  expect([reset, complete, changes.map(({ key }) => key)]).toEqual([false, true, ["trust/revocations/name/node/eu-2"]]);
  expect(ends).toBe(1);
});

test("newcomers need no role", () => {
  expect([join, renew].map((rpc) => requiredAccessOf(rpc)?.role)).toEqual([undefined, undefined]);
});
