/** Client certificates → principals: the SPIFFE id in the subject's alternative names, else its common name. */
import { WaymarkError } from "../../lib/errors.ts";

/** What a connection's TLS said of its client, read once a connection. */
export type PeerCertificate =
  | {
      readonly isTrusted: true;
      /** Subject alternative names as node writes them: `URI:spiffe://…, DNS:…`. */
      readonly alternativeNames: string;
      readonly commonName: string;
      readonly expiresWallMs: number;
    }
  /** Shown, but no authority of ours signed it, or it is out of its time; `why` is OpenSSL's word for it. */
  | { readonly isTrusted: false; readonly why: string };

const SPIFFE = "spiffe://";
// Trust domain and path of the SPIFFE-ID specification, section 2, with our bound on the length.
const SPIFFE_ID = /^spiffe:\/\/[a-z0-9._-]+(?:\/[A-Za-z0-9._-]+)+$/;
const PRINCIPAL = /^[\x21-\x7e]{1,256}$/;

/** Whether a text can name a principal: 1 to 256 printable ASCII characters without spaces. */
export function isPrincipal(text: string): boolean {
  return PRINCIPAL.test(text);
}

type TrustedCertificate = Extract<PeerCertificate, { readonly isTrusted: true }>;

/** Throws `unauthenticated` when a certificate is not trusted or out of its time. */
export function checkCertificate(certificate: PeerCertificate, wallMs: number): asserts certificate is TrustedCertificate {
  if (!certificate.isTrusted) throw refused(`client certificate is not trusted (${certificate.why})`);
  if (wallMs > certificate.expiresWallMs) throw refused("client certificate has expired since the connection was opened");
}

/** Who a certificate speaks for. Throws `unauthenticated` when `checkCertificate` does, and when it names nobody. */
export function principalOf(certificate: PeerCertificate, wallMs: number): string {
  checkCertificate(certificate, wallMs);
  const ids = uriNames(certificate.alternativeNames).filter((uri) => uri.startsWith(SPIFFE));
  if (ids.length > 1) throw refused("client certificate has more than one SPIFFE id");
  const [id] = ids;
  if (id !== undefined) {
    if (!SPIFFE_ID.test(id) || !isPrincipal(id))
      throw refused("client certificate has a malformed SPIFFE id, or one longer than 256 characters");
    return id;
  }
  const { commonName } = certificate;
  // A common name must not pass for a SPIFFE id: authorities check the two differently.
  if (!isPrincipal(commonName) || commonName.startsWith(SPIFFE))
    throw refused("client certificate has neither a SPIFFE id nor a common name of 1 to 256 printable characters without spaces");
  return commonName;
}

function refused(message: string): WaymarkError {
  return new WaymarkError("unauthenticated", message);
}

/** The URIs among alternative names. Names that hold a comma, a quote or the like are JSON strings (CVE-2021-44532). */
export function uriNames(alternativeNames: string): readonly string[] {
  const uris: string[] = [];
  for (const [, quoted, plain] of alternativeNames.matchAll(/(?:^|, )URI:(?:("(?:[^"\\]|\\.)*")|([^,"]*))(?=, |$)/g)) {
    // What had to be quoted is no SPIFFE id; it is kept so that it is refused and not passed over.
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

/** Whether a principal matches a pattern: equal, or with one `*` in it that stands for one or more characters. */
export function matchesPrincipal(pattern: string, principal: string): boolean {
  const star = pattern.indexOf("*");
  if (star < 0) return pattern === principal;
  const [head, tail] = [pattern.slice(0, star), pattern.slice(star + 1)];
  return principal.length > head.length + tail.length && principal.startsWith(head) && principal.endsWith(tail);
}
