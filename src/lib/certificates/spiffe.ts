/** Parses the alternative names of a certificate in Node's text format, including the SPIFFE ids that they contain. */

/** Prefix of every SPIFFE id. */
export const SPIFFE = "spiffe://";
/** Section 2 of the SPIFFE-ID specification. No path segment is `.` or `..` (section 2.2). */
const SEGMENT = "(?!\\.{1,2}(?:/|$))[A-Za-z0-9._-]";
const TRUST_DOMAIN = "[a-z0-9._-]{1,255}";
const SPIFFE_ID = new RegExp(`^${SPIFFE}${TRUST_DOMAIN}(?:/${SEGMENT}+)+$`);
/** Waymark ids (semantics.md, Names and bounds), without the characters that SPIFFE forbids. */
const NODE_ID = new RegExp(`^${SPIFFE}(${TRUST_DOMAIN})/waymark/cluster/(${SEGMENT}{1,64})/node/(${SEGMENT}{1,64})$`);

/** Whether a URI is a well-formed SPIFFE id with a path. */
export function isSpiffeId(uri: string): boolean {
  return SPIFFE_ID.test(uri);
}

export interface SpiffeNode {
  readonly trustDomain: string;
  readonly clusterId: string;
  readonly nodeId: string;
}

/** The node that is named by a URI of the form `spiffe://<trust domain>/waymark/cluster/<cluster>/node/<node>`. Undefined for all other URIs. */
export function nodeOfSpiffeId(uri: string): SpiffeNode | undefined {
  const [, trustDomain, clusterId, nodeId] = NODE_ID.exec(uri) ?? [];
  return trustDomain === undefined || clusterId === undefined || nodeId === undefined ? undefined : { trustDomain, clusterId, nodeId };
}

export interface AlternativeNames {
  readonly uris: readonly string[];
  readonly dnsNames: readonly string[];
}

/**
 * Reads `X509Certificate.subjectAltName`. If a name contains a comma, a quote, or a similar character, Node writes it as a JSON string
 * (CVE-2021-44532). The quotes are not removed, so such a name cannot be mistaken for a valid one. Undefined if the text cannot be parsed completely.
 */
export function readAlternativeNames(text: string): AlternativeNames | undefined {
  const uris: string[] = [];
  const dnsNames: string[] = [];
  let end = 0;
  for (const [part, kind, name = ""] of text.matchAll(/([^:,"]+):("(?:[^"\\]|\\.)*"|[^,"]*)(?:, |$)/gy)) {
    if (kind === "URI") uris.push(name);
    if (kind === "DNS") dnsNames.push(name);
    end += part.length;
  }
  return end === text.length ? { uris, dnsNames } : undefined;
}
