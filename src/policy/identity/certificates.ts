/** Maps client certificates to principals: the SPIFFE id, or else the DNS name, or else the common name of the subject. */
import { isSpiffeId, readAlternativeNames, SPIFFE } from "../../lib/certificates/spiffe.ts";
import { unauthenticated } from "./caller.ts";

/** The TLS data about a connection's client, which is read once per connection. */
export type PeerCertificate =
  | {
      readonly isTrusted: true;
      /** Subject alternative names as Node.js writes them: `URI:spiffe://…, DNS:…`. */
      readonly alternativeNames: string;
      readonly commonName: string;
      /** The name of the issuer as Node.js writes it. */
      readonly issuer: string;
      readonly validFromWallMs: number;
      readonly expiresWallMs: number;
      /** `CallerIdentity.tokenId` of its callers. */
      readonly tokenId: string;
    }
  /** The certificate is not signed by a CA that this node trusts, or is outside its validity period. `why` is OpenSSL's error code. */
  | { readonly isTrusted: false; readonly why: string };

const DNS_NAME = /^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/;
const PRINCIPAL = /^[\x21-\x7e]{1,256}$/;

/** Whether a string is usable as the name of a principal: 1 to 256 printable ASCII characters without spaces. */
export function isPrincipal(text: string): boolean {
  return PRINCIPAL.test(text);
}

/** OpenSSL's error codes for certificates whose chain does not end in a trusted CA. */
const IS_UNKNOWN_CA = /^(?:CERT_SIGNATURE_FAILURE|UNABLE_TO_(?:GET_ISSUER|VERIFY_LEAF)|DEPTH_ZERO_SELF_SIGNED|SELF_SIGNED)/;

type TrustedCertificate = Extract<PeerCertificate, { readonly isTrusted: true }>;

/** Throws `unauthenticated` if a certificate is not trusted or has expired. */
export function checkCertificate(certificate: PeerCertificate, wallMs: number): asserts certificate is TrustedCertificate {
  if (!certificate.isTrusted) {
    const fault = IS_UNKNOWN_CA.test(certificate.why) ? "was not signed by a CA in tls.ca_file of this node" : "is not trusted";
    throw unauthenticated(`client certificate ${fault} (${certificate.why})`);
  }
  if (wallMs > certificate.expiresWallMs) throw unauthenticated("client certificate has expired since the connection was opened");
}

/**
 * Returns the principal of a certificate. Throws `unauthenticated` if `checkCertificate` throws, or if the certificate has no usable name.
 */
export function principalOf(certificate: PeerCertificate, wallMs: number): string {
  checkCertificate(certificate, wallMs);
  const names = readAlternativeNames(certificate.alternativeNames);
  if (names === undefined) throw unauthenticated("client certificate has alternative names that cannot be read");
  // A quoted URI may begin with the SPIFFE scheme. Such a name is treated as a SPIFFE id, so that it is rejected and not ignored.
  const ids = names.uris.filter((uri) => uri.startsWith(SPIFFE) || uri.startsWith(`"${SPIFFE}`));
  if (ids.length > 1) throw unauthenticated("client certificate has more than one SPIFFE id");
  const [id] = ids;
  if (id !== undefined) {
    if (!isSpiffeId(id) || !isPrincipal(id))
      throw unauthenticated("client certificate has a malformed SPIFFE id, or one longer than 256 characters");
    return id;
  }
  // RFC 9525, section 2: if a certificate has DNS names, its common name is ignored.
  if (names.dnsNames.length > 0) return dnsPrincipal(names.dnsNames);
  const { commonName } = certificate;
  // A common name must not be accepted as a SPIFFE id, because CAs verify the two differently.
  if (!isPrincipal(commonName) || commonName.startsWith(SPIFFE))
    throw unauthenticated(
      "client certificate has no SPIFFE id, no DNS name, and no common name of 1 to 256 printable characters without spaces",
    );
  return commonName;
}

function dnsPrincipal([first = "", ...others]: readonly string[]): string {
  if (others.length > 0)
    throw unauthenticated("client certificate has more than one DNS name and no SPIFFE id: the principal is ambiguous");
  const name = first.toLowerCase();
  if (!DNS_NAME.test(name) || !isPrincipal(name))
    throw unauthenticated("client certificate has no SPIFFE id, and its DNS name is not a valid host name");
  return name;
}
