/** Turns client certificates into principals: the SPIFFE id among the subject's alternative names, else the common name. */
import { unauthenticated } from "./caller.ts";

/** What TLS says about the client of a connection, read once for each connection. */
export type PeerCertificate =
  | {
      readonly isTrusted: true;
      /** Subject alternative names as node writes them: `URI:spiffe://…, DNS:…`. */
      readonly alternativeNames: string;
      readonly commonName: string;
      readonly expiresWallMs: number;
    }
  /** The certificate is not signed by an authority that this node trusts, or not valid now; `why` is OpenSSL's word for it. */
  | { readonly isTrusted: false; readonly why: string };

const SPIFFE = "spiffe://";
// Trust domain and path as in section 2 of the SPIFFE-ID specification.
const SPIFFE_ID = /^spiffe:\/\/[a-z0-9._-]+(?:\/[A-Za-z0-9._-]+)+$/;
const PRINCIPAL = /^[\x21-\x7e]{1,256}$/;

/** Whether a text can name a principal: 1 to 256 printable ASCII characters without spaces. */
export function isPrincipal(text: string): boolean {
  return PRINCIPAL.test(text);
}

type TrustedCertificate = Extract<PeerCertificate, { readonly isTrusted: true }>;

/** Throws `unauthenticated` when a certificate is not trusted, or has expired. */
export function checkCertificate(certificate: PeerCertificate, wallMs: number): asserts certificate is TrustedCertificate {
  if (!certificate.isTrusted) throw unauthenticated(`client certificate is not trusted (${certificate.why})`);
  if (wallMs > certificate.expiresWallMs) throw unauthenticated("client certificate has expired since the connection was opened");
}

/** The principal of a certificate. Throws `unauthenticated` when `checkCertificate` does, and when the certificate has no name that counts. */
export function principalOf(certificate: PeerCertificate, wallMs: number): string {
  checkCertificate(certificate, wallMs);
  const ids = uriNames(certificate.alternativeNames).filter((uri) => uri.startsWith(SPIFFE));
  if (ids.length > 1) throw unauthenticated("client certificate has more than one SPIFFE id");
  const [id] = ids;
  if (id !== undefined) {
    if (!SPIFFE_ID.test(id) || !isPrincipal(id))
      throw unauthenticated("client certificate has a malformed SPIFFE id, or one longer than 256 characters");
    return id;
  }
  const { commonName } = certificate;
  // A common name must not count as a SPIFFE id, because authorities check the two differently.
  if (!isPrincipal(commonName) || commonName.startsWith(SPIFFE))
    throw unauthenticated("client certificate has neither a SPIFFE id nor a common name of 1 to 256 printable characters without spaces");
  return commonName;
}

/** The URIs among alternative names. Node writes names with a comma, a quote or the like as JSON strings (CVE-2021-44532). */
export function uriNames(alternativeNames: string): readonly string[] {
  const uris: string[] = [];
  for (const [, quoted, plain] of alternativeNames.matchAll(/(?:^|, )URI:(?:("(?:[^"\\]|\\.)*")|([^,"]*))(?=, |$)/g)) {
    // A quoted name is never a SPIFFE id. It is kept, so that it is refused and not ignored.
    if (quoted !== undefined) uris.push(unquoted(quoted));
    else if (plain !== undefined) uris.push(plain);
  }
  return uris;
}

function unquoted(text: string): string {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "string" ? value : text;
  } catch {
    return text;
  }
}

/** Whether a principal matches a pattern. The pattern may have one `*`, which stands for one or more characters. */
export function matchesPrincipal(pattern: string, principal: string): boolean {
  const star = pattern.indexOf("*");
  if (star < 0) return pattern === principal;
  const [head, tail] = [pattern.slice(0, star), pattern.slice(star + 1)];
  return principal.length > head.length + tail.length && principal.startsWith(head) && principal.endsWith(tail);
}
