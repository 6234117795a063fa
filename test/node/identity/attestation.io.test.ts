/** Attestations against the keys in a join policy, with real keys. */
import { expect, test } from "vitest";
import { attest } from "../../../src/node/identity/attestation.io.ts";
import { AUDIENCE, ISSUER, TestIssuer } from "../../fakes/issuer.ts";

const [first, second] = await Promise.all([TestIssuer.create(), TestIssuer.create("RS256", "key-rsa")]);
const issuerOf = async (name: string, from: TestIssuer, over: { issuer?: string; audience?: string; algorithms?: string[] } = {}) =>
  ({ name, issuer: ISSUER, audience: AUDIENCE, jwks: await from.jwks(), algorithms: ["ES256", "RS256"], ...over }) as Parameters<
    typeof attest
  >[1][number];

test("the issuer whose keys, name and audience fit has made it, and its claims are all there", async () => {
  const issuers = [
    await issuerOf("first", first),
    await issuerOf("second", second),
    await issuerOf("third", first, { issuer: "https://third.test" }),
  ];
  const claims = { "kubernetes.io": { namespace: "waymark" } };
  expect(await attest(await second.token({ claims, subject: "system:serviceaccount:waymark:node" }), issuers, Date.now())).toMatchObject({
    issuer: "second",
    subject: "system:serviceaccount:waymark:node",
    claims: { ...claims, iss: ISSUER },
  });
  expect(await attest(await first.token({ issuer: "https://third.test" }), issuers, Date.now())).toMatchObject({ issuer: "third" });
});

test.each([
  { what: "expired", token: () => first.token({ expiresInS: -61 }), want: "first: unauthenticated: token has expired" },
  { what: "without an end", token: () => first.token({ expiresInS: undefined }), want: "first: unauthenticated: token has no claim exp" },
  { what: "of the future", token: () => first.token({ issuedInS: 120 }), want: "first: unauthenticated: token was issued in the future" },
  { what: "not yet valid", token: () => first.token({ notBeforeInS: 120 }), want: "first: unauthenticated: token is not valid yet" },
  {
    what: "of another issuer",
    token: () => first.token({ issuer: "https://x.test" }),
    want: "first: unauthenticated: token is from an unexpected issuer",
  },
  {
    what: "signed with the public key as a secret",
    token: () => first.confused(),
    want: "first: unauthenticated: token is signed with an algorithm",
  },
  { what: "unsigned", token: async () => first.unsigned(), want: "first: unauthenticated: token is" },
  {
    what: "with an algorithm that the policy does not name",
    token: () => second.token(),
    want: "first: unauthenticated: token is signed with an algorithm",
  },
  { what: "with a subject of two lines", token: () => first.token({ subject: "a\nb" }), want: "first: token's claim sub must be" },
  { what: "with an empty subject", token: () => first.token({ subject: "" }), want: "first: token's claim sub must be" },
])("a token that is $what is no attestation", async ({ token, want }) => {
  const issuers = [await issuerOf("first", first, { algorithms: ["ES256"] })];
  expect(await attest(await token(), issuers, Date.now())).toContain(want);
});

test("with several issuers, the reasons of all are shown, and without one there is none", async () => {
  const issuers = [await issuerOf("first", first), await issuerOf("other", first, { audience: "other" })];
  const why = await attest(await first.token({ expiresInS: -120 }), issuers, Date.now());
  expect(why).toBe("first: unauthenticated: token has expired; other: unauthenticated: token is for an unexpected audience");
  expect(await attest(await first.token(), [], Date.now())).toBe("the join policy names no issuer of attestations");
});
