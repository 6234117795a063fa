/** The callers that the join endpoint knows by their certificates. */
import { expect, test } from "vitest";
import { NO_REVOCATIONS, type Revocations } from "../../../src/lib/certificates/revocations.ts";
import { callerOf } from "../../../src/node/identity/join-endpoint.io.ts";
import type { ConnectionPeer } from "../../../src/policy/identity/tenants.ts";

const ID = "spiffe://waymark.test/waymark/cluster/eu/node/eu-2";
const HOUR_MS = 3_600_000;
const CERTIFICATE = {
  isTrusted: true,
  alternativeNames: `URI:${ID}`,
  commonName: "eu-2",
  issuer: "O=Waymark\nOU=eu\nCN=eu-1\nserialNumber=k1",
  validFromWallMs: Date.now() - HOUR_MS,
  expiresWallMs: Date.now() + HOUR_MS,
  tokenId: "cert:1",
} as const;

const NAME_REVOKED: Revocations = { ...NO_REVOCATIONS, names: new Map([["eu/node/eu-2", Date.now()]]) };
const ISSUER_REVOKED: Revocations = { ...NO_REVOCATIONS, issuers: new Set(["eu/k1"]) };

interface CallerCase {
  readonly what: string;
  readonly certificate?: ConnectionPeer["certificate"];
  readonly revocations?: Revocations;
  readonly want: { readonly principal: string; readonly isAuthenticated: boolean };
}

const ANONYMOUS = { principal: "", isAuthenticated: false };

test.each<CallerCase>([
  { what: "a valid certificate", certificate: CERTIFICATE, want: { principal: ID, isAuthenticated: true } },
  { what: "no certificate", want: ANONYMOUS },
  { what: "a certificate of another authority", certificate: { isTrusted: false, why: "unable to verify" }, want: ANONYMOUS },
  {
    what: "a certificate that has ended while its connection was open",
    certificate: { ...CERTIFICATE, expiresWallMs: Date.now() - 1 },
    want: ANONYMOUS,
  },
  { what: "two identities", certificate: { ...CERTIFICATE, alternativeNames: `URI:${ID}, URI:${ID}3` }, want: ANONYMOUS },
  { what: "no identity", certificate: { ...CERTIFICATE, alternativeNames: "DNS:eu-2" }, want: ANONYMOUS },
  { what: "a revoked name", certificate: CERTIFICATE, revocations: NAME_REVOKED, want: ANONYMOUS },
  {
    what: "a revoked issuer",
    certificate: CERTIFICATE,
    revocations: ISSUER_REVOKED,
    want: { principal: ID, isAuthenticated: false },
  },
])("a client with $what", ({ certificate, revocations = NO_REVOCATIONS, want }) => {
  expect(callerOf({ address: "127.0.0.1", certificate }, "eu", { revocations })).toMatchObject(want);
});
