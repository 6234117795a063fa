/** Parses the alternative names of a certificate in Node's text format, including the SPIFFE ids that they contain. */

/** Prefix of every SPIFFE id. */
export const SPIFFE = "spiffe://";
/** Section 2 of the SPIFFE-ID specification. No path segment is `.` or `..` (section 2.2). */
const SEGMENT = "(?!\\.{1,2}(?:/|$))[A-Za-z0-9._-]";
const TRUST_DOMAIN = "[a-z0-9._-]{1,255}";
const SPIFFE_ID = new RegExp(`^${SPIFFE}${TRUST_DOMAIN}(?:/${SEGMENT}+)+$`);
/** Waymark ids (semantics.md, Names and bounds), without the characters that SPIFFE forbids. */
const IDENTITY = new RegExp(`^${SPIFFE}(${TRUST_DOMAIN})/waymark/cluster/(${SEGMENT}{1,64})/(node|resolver|client)/(${SEGMENT}{1,64})$`);
const NAME = new RegExp(`^${SEGMENT}{1,64}$`);
const DOMAIN = new RegExp(`^${TRUST_DOMAIN}$`);

/** The kinds of programs that a Waymark authority identifies. */
export const IDENTITY_ROLES = ["node", "resolver", "client"] as const;
export type IdentityRole = (typeof IDENTITY_ROLES)[number];

/** The identity of a program: `spiffe://<trust domain>/waymark/cluster/<cluster>/<role>/<name>`. */
export interface SpiffeIdentity {
  readonly trustDomain: string;
  readonly clusterId: string;
  readonly role: IdentityRole;
  readonly name: string;
}

export const IDENTITY_NAME = { pattern: NAME, what: "1 to 64 of A-Z a-z 0-9 . _ -, other than . and .." } as const;
export const TRUST_DOMAIN_NAME = { pattern: DOMAIN, what: "1 to 255 of a-z 0-9 . _ -" } as const;

export function spiffeIdOf({ trustDomain, clusterId, role, name }: SpiffeIdentity): string {
  return `${SPIFFE}${trustDomain}/waymark/cluster/${clusterId}/${role}/${name}`;
}

/** The identity in a URI. Undefined for URIs of another form. */
export function identityOfSpiffeId(uri: string): SpiffeIdentity | undefined {
  const [, trustDomain, clusterId, found, name] = IDENTITY.exec(uri) ?? [];
  const role = IDENTITY_ROLES.find((each) => each === found);
  if (trustDomain === undefined || clusterId === undefined || role === undefined || name === undefined) return undefined;
  return { trustDomain, clusterId, role, name };
}

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
  const { trustDomain, clusterId, role, name } = identityOfSpiffeId(uri) ?? {};
  if (trustDomain === undefined || clusterId === undefined || name === undefined || role !== "node") return undefined;
  return { trustDomain, clusterId, nodeId: name };
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
