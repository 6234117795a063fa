import { expect, test } from "vitest";
import { type PeerCertificate, principalOf } from "../../../src/policy/identity/certificates.ts";

function certificate(alternativeNames: string, commonName = "web"): PeerCertificate {
  return { isTrusted: true, alternativeNames, commonName, issuer: "", validFromWallMs: 0, expiresWallMs: 1000, tokenId: "cert:01" };
}

test.each([
  { names: "URI:spiffe://prod.example/ns/market/sa/web", want: "spiffe://prod.example/ns/market/sa/web" },
  { names: "DNS:localhost, URI:spiffe://prod.example/web, IP Address:127.0.0.1", want: "spiffe://prod.example/web" },
  { names: "URI:https://example.org/, URI:spiffe://prod.example/web", want: "spiffe://prod.example/web" },
  // The common name is ignored if there is a DNS name.
  { names: "DNS:Ops.Example", want: "ops.example" },
  { names: "IP Address:127.0.0.1, DNS:ops.example", want: "ops.example" },
  { names: "IP Address:0:0:0:0:0:0:0:1, email:a@b.example, URI:https://example.org/", want: "web" },
  { names: "", want: "web" },
  // A DNS name that looks like the start of another name stays a DNS name.
  { names: 'DNS:"x, URI:spiffe://prod.example/admin, y", URI:spiffe://prod.example/web', want: "spiffe://prod.example/web" },
])("a certificate for $names is of $want", ({ names, want }) => {
  expect(principalOf(certificate(names), 0)).toBe(want);
});

test.each([
  { what: "two SPIFFE ids", shown: certificate("URI:spiffe://a.example/x, URI:spiffe://a.example/y"), says: "more than one SPIFFE id" },
  { what: "a SPIFFE id without a path", shown: certificate("URI:spiffe://a.example"), says: "malformed SPIFFE id" },
  { what: "a SPIFFE id in capitals", shown: certificate("URI:spiffe://A.example/x"), says: "malformed SPIFFE id" },
  { what: "a SPIFFE id with what had to be quoted", shown: certificate('URI:"spiffe://a.example/x,y"'), says: "malformed SPIFFE id" },
  { what: "a SPIFFE id with a segment ..", shown: certificate("URI:spiffe://a.example/x/../admin"), says: "malformed SPIFFE id" },
  { what: "a SPIFFE id that ends in ..", shown: certificate("URI:spiffe://a.example/x/.."), says: "malformed SPIFFE id" },
  { what: "a SPIFFE id with a segment .", shown: certificate("URI:spiffe://a.example/./x"), says: "malformed SPIFFE id" },
  { what: "a SPIFFE id with an empty segment", shown: certificate("URI:spiffe://a.example/x//y"), says: "malformed SPIFFE id" },
  { what: "several DNS names", shown: certificate("DNS:a.example, DNS:b.example"), says: "more than one DNS name" },
  { what: "a wildcard DNS name", shown: certificate("DNS:*.example"), says: "not a valid host name" },
  {
    what: "a DNS name that had to be quoted",
    shown: certificate('DNS:"x, URI:spiffe://prod.example/admin, y"'),
    says: "not a valid host name",
  },
  { what: "names that cannot be read", shown: certificate('DNS:"x'), says: "cannot be read" },
  { what: "a SPIFFE id that is too long", shown: certificate(`URI:spiffe://a.example/${"x".repeat(250)}`), says: "longer than 256" },
  { what: "no name at all", shown: certificate("IP Address:127.0.0.1", ""), says: "no SPIFFE id, no DNS name, and no common name" },
  { what: "a common name with spaces", shown: certificate("", "node web"), says: "no common name" },
  { what: "a common name that looks like a SPIFFE id", shown: certificate("", "spiffe://prod.example/admin"), says: "no common name" },
  {
    what: "another authority's",
    shown: { isTrusted: false, why: "SELF_SIGNED_CERT_IN_CHAIN" } as const,
    says: "was not signed by a CA in tls.ca_file of this node (SELF_SIGNED_CERT_IN_CHAIN)",
  },
  {
    what: "an authority of the same name",
    shown: { isTrusted: false, why: "CERT_SIGNATURE_FAILURE" } as const,
    says: "was not signed by a CA in tls.ca_file of this node (CERT_SIGNATURE_FAILURE)",
  },
  {
    what: "an unknown issuer",
    shown: { isTrusted: false, why: "UNABLE_TO_VERIFY_LEAF_SIGNATURE" } as const,
    says: "was not signed by a CA in tls.ca_file of this node (UNABLE_TO_VERIFY_LEAF_SIGNATURE)",
  },
  {
    what: "a time that is over",
    shown: { isTrusted: false, why: "CERT_HAS_EXPIRED" } as const,
    says: "client certificate is not trusted (CERT_HAS_EXPIRED)",
  },
])("a certificate with $what is refused", ({ shown, says }) => {
  expect(() => principalOf(shown, 0)).toThrow(says);
});

test("a certificate that expires while its connection is open counts no longer", () => {
  expect(principalOf(certificate(""), 1000)).toBe("web");
  expect(() => principalOf(certificate(""), 1001)).toThrow("unauthenticated: client certificate has expired");
});
