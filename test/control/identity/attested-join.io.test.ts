/** Joins with attestations, and join policies, over a control store: with signed tokens of real keys. */
import { generateKeyPairSync } from "node:crypto";
import { create, type DescMethod, type MessageInitShape } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import {
  BootstrapService,
  IdentityRole,
  JoinEffect,
  JoinPolicySchema,
  type JoinRuleSchema,
  JoinTokenUse,
} from "../../../gen/waymark/control/v1/bootstrap_pb.js";
import { Authority } from "../../../src/control/identity/authority.io.ts";
import { Issuer } from "../../../src/control/identity/issuer.ts";
import { JOIN_POLICY } from "../../../src/control/identity/records.ts";
import { joinBytes } from "../../../src/control/identity/requests.ts";
import { TrustCopy } from "../../../src/control/identity/trust.ts";
import { P256PrivateKey } from "../../../src/lib/crypto.ts";
import { attest } from "../../../src/node/identity/attestation.io.ts";
import { anonymousCaller } from "../../../src/policy/identity/caller.ts";
import { bootstrapService, type IdentityOperation } from "../../../src/services/identity/bootstrap.ts";
import { openMemoryStore } from "../../../src/store/control/sqlite.io.ts";
import { AUDIENCE, ISSUER, TestIssuer } from "../../fakes/issuer.ts";

const HOUR_MS = 3_600_000;
const pods = await TestIssuer.create();
const jwks = await pods.jwks();
const K8S = { name: "k8s", issuer: ISSUER, audience: AUDIENCE, jwks, algorithms: ["ES256"] };

type Rules = MessageInitShape<typeof JoinRuleSchema>[];

const ATTESTED = { issuer: "k8s", claims: [{ path: "kubernetes.io/namespace", values: ["waymark"] }] };
const ALLOW = { effect: JoinEffect.ALLOW, names: ["eu-*"], attested: ATTESTED };
const REPLACED = { ...ALLOW, roles: [IdentityRole.NODE], token: JoinTokenUse.REPLACED, dnsNames: ["eu.example"] };

function newKey(): P256PrivateKey {
  return new P256PrivateKey(generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey);
}

const policyOf = (rules: Rules) => create(JoinPolicySchema, { issuers: [K8S], rules });

function newAuthority() {
  const facts = { trustDomain: "waymark.test", clusterId: "eu", nodeId: "eu-1", certificate: "", root: "", rootDigest: "0".repeat(64) };
  const random = (count: number) => crypto.getRandomValues(new Uint8Array(count));
  const issuer = new Issuer({ ...facts, key: newKey(), notAfterWallMs: Date.now() + 100 * HOUR_MS, random });
  const store = openMemoryStore();
  const authority = new Authority({ store, issuer, leafTtlMs: HOUR_MS, renewAfterEndMs: 0, attest });
  const tokenFor = async (name: string, dnsNames: readonly string[] = []) =>
    (await authority.createToken({ createdBy: "ann", dnsNames, name, role: "node", uses: 1, ttlMs: HOUR_MS }, Date.now())).token;
  const join = async (
    {
      token = "",
      attestation = "",
      name = "eu-7",
      key = newKey(),
    }: Partial<Record<"attestation" | "name" | "token", string>> & { key?: P256PrivateKey },
    afterMs = 0,
  ) => {
    const asked = { token, attestation, name, publicKey: key.publicKey };
    const { role, record } = await authority.join({ ...asked, signature: key.sign(joinBytes(asked)) }, Date.now() + afterMs);
    return { role, attestedBy: record.attestedBy, dnsNames: record.dnsNames };
  };
  return { authority, store, join, tokenFor };
}

/** A token of a service account. */
const podToken = (account = "node", namespace = "waymark", expiresInS = 10 * 3600) =>
  pods.token({ subject: `${namespace}:${account}`, claims: { "kubernetes.io": { namespace } }, expiresInS });

const refusal = (problem: string, says = "") => ({ message: expect.stringContaining(says) as string, details: { metadata: { problem } } });

test("an attestation replaces the token, and the rule decides role and DNS names", async () => {
  const { authority, join } = newAuthority();
  const attestation = await podToken();
  await expect(join({ attestation })).rejects.toMatchObject(refusal("join_denied", "does not allow eu-7 to join without a token"));
  await authority.applyJoinPolicy(policyOf([REPLACED]), 0, "ann", Date.now());
  const key = newKey();
  const want = { role: "node", attestedBy: "k8s/waymark:node", dnsNames: ["eu.example"] };
  expect(await join({ attestation, key })).toEqual(want);
  // The answer was lost.
  expect(await join({ attestation, key })).toEqual(want);
  expect((await authority.identities()).found.map(({ name, record }) => [name, record.attestedBy])).toEqual([["eu-7", "k8s/waymark:node"]]);
});

test.each([
  {
    what: "no attestation and no token",
    asked: async () => ({}),
    want: { message: expect.stringContaining("invalid_argument: token") as string },
  },
  {
    what: "claims that differ",
    asked: async () => ({ attestation: await podToken("node", "guest") }),
    want: refusal("not_attested", "the claim kubernetes.io/namespace"),
  },
  {
    what: "an expired attestation",
    asked: async () => ({ attestation: await podToken("node", "waymark", -120) }),
    want: refusal("not_attested", "k8s: unauthenticated: token has expired"),
  },
  {
    what: "a forged attestation",
    asked: async () => ({ attestation: await (await TestIssuer.create()).token() }),
    want: refusal("not_attested", "invalid signature"),
  },
  { what: "no JWT", asked: async () => ({ attestation: "x" }), want: refusal("not_attested", "token is malformed") },
  {
    what: "another audience",
    asked: async () => ({ attestation: await pods.token({ audience: "other" }) }),
    want: refusal("not_attested", "unexpected audience"),
  },
  { what: "another name", asked: async () => ({ attestation: await podToken(), name: "us-1" }), want: refusal("join_denied") },
  { what: "no name", asked: async () => ({ attestation: await podToken(), name: "" }), want: refusal("join_denied") },
])("a newcomer with $what is refused", async ({ asked, want }) => {
  const { authority, join } = newAuthority();
  await authority.applyJoinPolicy(policyOf([REPLACED]), 0, "ann", Date.now());
  await expect(asked().then(join)).rejects.toMatchObject(want);
  expect((await authority.identities()).found).toEqual([]);
});

test("a token with an attestation in addition counts only together, and a refusal uses no token", async () => {
  const { authority, join, tokenFor } = newAuthority();
  await authority.applyJoinPolicy(policyOf([{ ...ALLOW, dnsNames: ["rule.example"] }]), 0, "ann", Date.now());
  const token = await tokenFor("eu-7");
  await expect(join({ token })).rejects.toMatchObject(refusal("not_attested", "the request contains none"));
  await expect(join({ attestation: await podToken() })).rejects.toMatchObject(refusal("join_denied"));
  await expect(join({ token: `${token.slice(0, -43)}${"A".repeat(43)}` })).rejects.toMatchObject(refusal("token_unknown"));
  const joined = await join({ token, attestation: await podToken() });
  expect(joined).toEqual({ role: "node", attestedBy: "k8s/waymark:node", dnsNames: ["rule.example"] });
  const other = await tokenFor("eu-8", ["token.example"]);
  expect(await join({ token: other, name: "eu-8", attestation: await podToken() })).toMatchObject({ dnsNames: ["token.example"] });
  expect((await authority.tokens(Date.now())).map(({ record }) => record.used)).toEqual([1, 1]);
});

test("a name whose certificate has ended or was revoked is for the same attested subject, and for no other", async () => {
  const { authority, join } = newAuthority();
  await authority.applyJoinPolicy(policyOf([REPLACED]), 0, "ann", Date.now());
  const [own, other] = [await podToken(), await podToken("other")];
  await join({ attestation: own });
  await expect(join({ attestation: own })).rejects.toMatchObject(refusal("identity_taken", "is held by another key"));
  await expect(join({ attestation: other }, 2 * HOUR_MS)).rejects.toMatchObject(refusal("identity_taken"));
  const key = newKey();
  expect(await join({ attestation: own, key }, 2 * HOUR_MS)).toMatchObject({ attestedBy: "k8s/waymark:node" });
  await authority.revoke({ role: "node", name: "eu-7" }, { reason: "stolen", revokedBy: "ann" }, Date.now() + 2 * HOUR_MS);
  await expect(join({ attestation: other }, 2 * HOUR_MS)).rejects.toMatchObject(refusal("identity_taken"));
  await expect(join({ attestation: own, key }, 2 * HOUR_MS)).rejects.toMatchObject(refusal("revoked"));
  expect(await join({ attestation: own }, 2 * HOUR_MS)).toMatchObject({ attestedBy: "k8s/waymark:node" });
});

test("a name without an attestation is not free for an attested subject, and a policy that changes meanwhile counts", async () => {
  const { authority, store, join, tokenFor } = newAuthority();
  await join({ token: await tokenFor("eu-7") });
  await authority.applyJoinPolicy(policyOf([REPLACED]), 0, "ann", Date.now());
  await expect(join({ attestation: await podToken() }, 2 * HOUR_MS)).rejects.toMatchObject(refusal("identity_taken"));
  const get = store.get.bind(store);
  let isApplied = false;
  store.get = async (key) => {
    const item = await get(key);
    if (key.endsWith("/eu-9") && !isApplied) {
      isApplied = true;
      await authority.applyJoinPolicy(policyOf([]), 1, "ann", Date.now());
    }
    return item;
  };
  await expect(join({ attestation: await podToken(), name: "eu-9" })).rejects.toMatchObject(refusal("join_denied"));
});

test("a policy is replaced only at its version, and a record that cannot be read admits no newcomer", async () => {
  const { authority, store, join, tokenFor } = newAuthority();
  const operations: IdentityOperation[] = [];
  const onOperation = (_caller: unknown, operation: IdentityOperation) => void operations.push(operation);
  const { handlers } = bootstrapService({ authority, copy: new TrustCopy("eu"), leafTtlMs: HOUR_MS, onOperation });
  const context = {
    caller: { ...anonymousCaller("eu", "127.0.0.1"), principal: "ann" },
    time: { monoMs: 0, wallMs: Date.now() },
    requestId: "r-1",
  };
  const call = async ({ localName }: DescMethod, request: object): Promise<unknown> => {
    const handler = handlers[localName];
    return handler?.kind === "unary" ? handler.handle(request as never, context) : undefined;
  };
  const { applyJoinPolicy, getJoinPolicy } = BootstrapService.method;
  expect(await call(getJoinPolicy, {})).toMatchObject({ version: 0 });
  expect(await call(applyJoinPolicy, { policy: policyOf([REPLACED]), expectedVersion: 0 })).toMatchObject({ version: 1 });
  expect(await call(applyJoinPolicy, { policy: policyOf([ALLOW]), expectedVersion: 1 })).toMatchObject({ version: 2 });
  await expect(call(applyJoinPolicy, { policy: policyOf([]), expectedVersion: 1 })).rejects.toThrow("the join policy has version 2, got 1");
  const bad = policyOf([{ ...REPLACED, dnsNames: ["eu.issuer.waymark"] }]);
  await expect(call(applyJoinPolicy, { policy: bad, expectedVersion: 0 })).rejects.toThrow(
    "policy.rules[0].dns_names[0]: names under waymark",
  );
  expect(await call(getJoinPolicy, {})).toMatchObject({
    version: 2,
    appliedBy: "ann",
    policy: { rules: [{ names: ["eu-*"], dnsNames: [] }] },
  });
  expect(operations.filter(({ refusal: why }) => why === "").map(({ action, detail }) => `${action} ${detail}`)).toEqual([
    "identity.apply_join_policy issuers=1 rules=1 expected_version=0",
    "identity.apply_join_policy issuers=1 rules=1 expected_version=1",
  ]);
  const later = JSON.stringify({ version: 3, policy: { rules: [{ effect: "JOIN_EFFECT_ALLOW", onlyAtNight: true }] } });
  await store.transact([], [{ key: JOIN_POLICY, value: new TextEncoder().encode(later) }]);
  await expect(tokenFor("eu-7").then((token) => join({ token }))).rejects.toThrow("the join policy in the control store cannot be read");
});

test("an attested subject has at most 10,000 names, and a name that ended makes room", async () => {
  const { authority, store, join } = newAuthority();
  await authority.applyJoinPolicy(policyOf([REPLACED]), 0, "ann", Date.now());
  const [attestation, other, key] = [await podToken(), await podToken("other"), newKey()];
  await join({ attestation, name: "eu-0", key });
  const { items } = await store.list("identity/names/node/eu-0");
  const value = items[0]?.value ?? new Uint8Array();
  for (let i = 1; i < 9_999; i += 100) {
    const names = Array.from({ length: Math.min(100, 9_999 - i) }, (_, n) => `identity/names/node/eu-${i + n}`);
    await store.transact(
      [],
      names.map((each) => ({ key: each, value })),
    );
  }
  await authority.removeEnded(Date.now());
  await join({ attestation, name: "eu-9999" });
  await expect(join({ attestation, name: "eu-10000" })).rejects.toMatchObject({ reason: "quota_exceeded" });
  expect([await join({ attestation, name: "eu-0", key }), await join({ attestation: other, name: "eu-10000" })].length).toBe(2);
  await store.transact([], [{ key: "identity/names/node/eu-1", value: undefined }]);
  await authority.removeEnded(Date.now());
  await join({ attestation, name: "eu-10001" });
});
