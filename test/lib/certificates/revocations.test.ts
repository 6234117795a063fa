import { expect, test } from "vitest";
import { BACKDATE_MS, issuerOf, revocationOf } from "../../../src/lib/certificates/revocations.ts";

test.each([
  { issuer: "O=Waymark\nOU=eu\nCN=eu-1\nserialNumber=k1", want: { clusterId: "eu", key: "k1" } },
  { issuer: "CN=eu-1\nOU=eu\nO=Waymark", want: { clusterId: "eu", key: "" } },
  // Node escapes a line feed, so that a name cannot pretend to be another field.
  { issuer: "O=Waymark\nOU=eu\\0AOU=us\nCN=eu-1", want: { clusterId: "eu\\0AOU=us", key: "" } },
  { issuer: "O=Waymark\nCN=waymark.internal 12345678", want: undefined },
  { issuer: "O=waymark\nOU=eu\nCN=eu-1", want: undefined },
  { issuer: "OU=eu\nCN=O=Waymark", want: undefined },
  { issuer: "CN=waymark test authority", want: undefined },
  { issuer: "", want: undefined },
])("the issuer in $issuer is $want", ({ issuer, want }) => {
  expect(issuerOf(issuer)).toEqual(want);
});

const NODE = "URI:spiffe://waymark.test/waymark/cluster/eu/node/eu-2";
const ISSUER = "O=Waymark\nOU=eu\nCN=eu-1\nserialNumber=k1";
const REVOCATIONS = { names: new Map([["eu/node/eu-2", 1_000_000]]), issuers: new Set(["eu/k9"]) };

test.each([
  { what: "made before", shown: { subjectAltName: NODE, validFromWallMs: 999_999 - BACKDATE_MS }, isRevoked: true },
  { what: "made after", shown: { subjectAltName: NODE, validFromWallMs: 1_000_000 - BACKDATE_MS }, isRevoked: false },
  { what: "another name", shown: { subjectAltName: NODE.replace("eu-2", "eu-3") }, isRevoked: false },
  { what: "another role", shown: { subjectAltName: NODE.replace("/node/", "/client/") }, isRevoked: false },
  { what: "another cluster", shown: { subjectAltName: NODE.replace("cluster/eu", "cluster/us") }, isRevoked: false },
  { what: "a revoked issuer", shown: { issuer: ISSUER.replace("k1", "k9"), validFromWallMs: 9e15 }, isRevoked: true },
  {
    what: "an issuer of another cluster",
    shown: { validFromWallMs: 9e15, issuer: ISSUER.replace("OU=eu", "OU=us").replace("k1", "k9") },
    isRevoked: false,
  },
  { what: "no name", shown: { subjectAltName: "", issuer: "CN=other" }, isRevoked: false },
])("a certificate with $what is revoked: $isRevoked", ({ shown, isRevoked }) => {
  const certificate = { subjectAltName: NODE, issuer: ISSUER, validFromWallMs: 0, ...shown };
  expect(revocationOf(certificate, REVOCATIONS) !== undefined).toBe(isRevoked);
});
