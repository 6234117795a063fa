/**
 * Maps credentials to callers, in this order: client certificate, bearer token or API key, the header of a trusted proxy, anonymous
 * (semantics.md, Policy). An invalid credential is rejected and never ignored: if a caller's token contains a typing error, the caller must not
 * become an anonymous caller that sees less.
 */
import { isName } from "../../catalog/entry/names.ts";
import { type AddressBlock, isLoopbackHost, isWithin } from "../../lib/addresses.ts";
import { NODE_BOUNDS } from "../../lib/bounds.ts";
import { issuerOf, type Revocations, revocationOf } from "../../lib/certificates/revocations.ts";
import { identityOfSpiffeId } from "../../lib/certificates/spiffe.ts";
import { sha256Hex } from "../../lib/crypto.ts";
import { matchesNamePattern } from "../../lib/text/name-pattern.ts";
import { anonymousCaller, type Caller, type CallerIdentity, unauthenticated } from "./caller.ts";
import { checkCertificate, type PeerCertificate, principalOf } from "./certificates.ts";
import type { IdentityDefaults } from "./claims.ts";

/** Returns the value of a request header, given its name in lower case. */
type HeaderReader = (name: string) => string | undefined;

/** The other end of a connection. */
export interface ConnectionPeer {
  /** Address without port. */
  readonly address: string;
  readonly certificate: PeerCertificate | undefined;
}

export type CredentialScheme = "bearer" | "api-key";

/** A token that this node knows only by its hash, and the identity of callers that send the token. */
export interface Credential {
  readonly scheme: CredentialScheme;
  /** SHA-256 of the token, 64 lower-case hexadecimal digits. */
  readonly digest: string;
  readonly identity: CallerIdentity;
  /** Whether the token is accepted only from the node's own machine. */
  readonly isLocal?: true;
}

/** The callers' tokens and the revocations that administrators make while nodes run. */
export interface ManagedCallers {
  readonly credentials: readonly Credential[];
  readonly revocations: Revocations;
}

/** The identity of callers whose certificate has a principal that matches. `pattern` is a pattern for `matchesNamePattern`. */
export interface CertificateRule {
  readonly pattern: string;
  readonly tenant: string | undefined;
  readonly cluster: string | undefined;
  readonly roles: readonly string[];
}

/**
 * Verifies signed tokens. Returns the identity immediately for a token that was verified before, and a promise for a new token. Throws or rejects
 * with `unauthenticated`.
 */
export interface TokenPort {
  identityOf(token: string): CallerIdentity | Promise<CallerIdentity>;
}

export interface TenantOptions {
  readonly isTenantMode: boolean;
  /** The tenant and cluster for callers whose credential does not specify them. */
  readonly defaults: IdentityDefaults;
  /** The roles of callers without a credential. */
  readonly anonymousRoles: readonly string[];
  /** Whether certificates are used to identify callers. If not, a certificate only permits the connection. */
  readonly areCertificatesIdentities: boolean;
  readonly certificates: readonly CertificateRule[];
  readonly credentials: readonly Credential[];
  /** The certificates that do not count, although their authority is trusted. */
  readonly revocations: Revocations;
  readonly tokens: TokenPort | undefined;
  readonly trustedHeader: { readonly name: string; readonly from: readonly AddressBlock[] } | undefined;
  readonly wallMs: () => number;
}

/** Maximum length of a token, in characters. Longer tokens are rejected without being verified. */
const MAX_TOKEN_LENGTH = 8_192;
const BEARER = /^bearer +([^\s]+) *$/i;

/** Identifies callers. The object is immutable: when the settings change, a new object is created. */
export class Tenants {
  readonly #options: TenantOptions;
  /** By scheme, and then by the digest of the secret. */
  readonly #credentials: Readonly<Record<CredentialScheme, ReadonlyMap<string, Credential>>>;
  /**
   * The credentials of headers that were presented before, so that a header is hashed once. The duration of a lookup reveals nothing, because a map
   * compares texts only if their hashes, whose seed is secret, are equal.
   */
  readonly #byHeaderText = new Map<string, Credential>();
  /** The identities for the certificates of open connections, so that patterns are matched only once per connection. */
  readonly #byCertificate = new WeakMap<PeerCertificate, CallerIdentity>();
  /** The certificates that were compared with the revocations. */
  readonly #unrevoked = new WeakSet<PeerCertificate>();
  readonly #anonymousTenant: string;

  constructor(options: TenantOptions) {
    this.#options = options;
    const byDigest = (scheme: CredentialScheme) =>
      new Map(options.credentials.filter((each) => each.scheme === scheme).map((each) => [each.digest, each]));
    this.#credentials = { bearer: byDigest("bearer"), "api-key": byDigest("api-key") };
    this.#anonymousTenant = options.isTenantMode ? "" : options.defaults.tenant;
  }

  /**
   * Returns the caller of a request, or a promise for a signed token that was not verified before. Throws or rejects with
   * `unauthenticated`.
   */
  identify(header: HeaderReader, peer: ConnectionPeer): Caller | Promise<Caller> {
    const { certificate, address } = peer;
    if (certificate !== undefined) {
      this.#checkRevocations(certificate);
      if (this.#options.areCertificatesIdentities) return { ...this.#certified(certificate), address };
      checkCertificate(certificate, this.#options.wallMs());
    }
    const bearer = header("authorization");
    const apiKey = header("x-api-key");
    if (bearer !== undefined && apiKey !== undefined) throw unauthenticated("both authorization and x-api-key were sent; send one of them");
    if (bearer !== undefined) return this.#byBearer(bearer, address);
    if (apiKey !== undefined) return this.#byKey(apiKey, address);
    return this.#byHeader(header, address) ?? this.#anonymous(address);
  }

  #checkRevocations(certificate: PeerCertificate): void {
    if (!certificate.isTrusted || this.#unrevoked.has(certificate)) return;
    const { alternativeNames: subjectAltName, issuer, validFromWallMs } = certificate;
    const why = revocationOf({ subjectAltName, issuer, validFromWallMs }, this.#options.revocations);
    if (why !== undefined) throw unauthenticated(why);
    this.#unrevoked.add(certificate);
  }

  #anonymous(address: string): Caller {
    const { defaults, anonymousRoles } = this.#options;
    const caller = anonymousCaller(defaults.cluster, address, anonymousRoles);
    return this.#anonymousTenant === "" ? caller : { ...caller, tenant: this.#anonymousTenant };
  }

  #certified(certificate: PeerCertificate): CallerIdentity {
    // Expiry is checked on every call, because a connection may outlive its certificate.
    const principal = principalOf(certificate, this.#options.wallMs());
    const known = this.#byCertificate.get(certificate);
    if (known !== undefined) return known;
    const { certificates, defaults } = this.#options;
    const rule = certificates.find(({ pattern }) => matchesNamePattern(pattern, principal));
    const identity: CallerIdentity = {
      principal,
      tenant: rule?.tenant ?? defaults.tenant,
      cluster: rule?.cluster ?? defaults.cluster,
      roles: rule?.roles ?? (isIssuedResolver(certificate, principal) ? ["mesh.resolve"] : []),
      isAuthenticated: true,
      ...(certificate.isTrusted && { untilWallMs: certificate.expiresWallMs, tokenId: certificate.tokenId }),
    };
    this.#byCertificate.set(certificate, identity);
    return identity;
  }

  #byBearer(header: string, address: string): Caller | Promise<Caller> {
    if (header.length > MAX_TOKEN_LENGTH + BEARER_WORD) throw unauthenticated(`token is longer than ${MAX_TOKEN_LENGTH} characters`);
    const known = this.#byHeaderText.get(header);
    const token = known === undefined ? BEARER.exec(header)?.[1] : "";
    if (token === undefined) throw unauthenticated('authorization header must have the form "Bearer <token>"');
    const credential = known ?? this.#find("bearer", token);
    if (credential?.isLocal === true && !isLoopbackHost(address))
      throw unauthenticated("the operator token is accepted only from the node's own machine");
    if (credential !== undefined) {
      if (known === undefined && this.#byHeaderText.size < this.#credentials.bearer.size) this.#byHeaderText.set(header, credential);
      const { untilWallMs = Number.POSITIVE_INFINITY } = credential.identity;
      if (this.#options.wallMs() > untilWallMs) throw unauthenticated("token has expired");
      return { ...credential.identity, address };
    }
    const { tokens } = this.#options;
    if (tokens === undefined) throw unauthenticated("token is unknown on this node");
    const identity = tokens.identityOf(token);
    return identity instanceof Promise ? identity.then((verified) => ({ ...verified, address })) : { ...identity, address };
  }

  #byKey(key: string, address: string): Caller {
    if (key.length > MAX_TOKEN_LENGTH) throw unauthenticated(`x-api-key is longer than ${MAX_TOKEN_LENGTH} characters`);
    const credential = this.#find("api-key", key);
    if (credential === undefined) throw unauthenticated("x-api-key is unknown on this node");
    return { ...credential.identity, address };
  }

  /** Finds a credential. The duration of the lookup reveals nothing, because a caller cannot choose the SHA-256 of its token. */
  // HOT: once per call with a credential. A second comparison of the digests in constant time needed 4 µs and found nothing more.
  #find(scheme: CredentialScheme, token: string): Credential | undefined {
    return this.#credentials[scheme].get(sha256Hex(token));
  }

  #byHeader(header: HeaderReader, address: string): Caller | undefined {
    const { trustedHeader, defaults } = this.#options;
    const tenant = trustedHeader === undefined ? undefined : header(trustedHeader.name);
    if (trustedHeader === undefined || tenant === undefined) return undefined;
    if (!isWithin(trustedHeader.from, address))
      throw unauthenticated(`header ${trustedHeader.name} is accepted only from the configured proxies`);
    if (!isName(tenant, NODE_BOUNDS.maxIdLength))
      throw unauthenticated(`header ${trustedHeader.name} must be an id of 1 to ${NODE_BOUNDS.maxIdLength} characters`);
    return { principal: tenant, tenant, cluster: defaults.cluster, roles: [], isAuthenticated: true, address };
  }
}

/** Whether an issuer of the mesh has made this certificate for a resolver. */
function isIssuedResolver(certificate: PeerCertificate, principal: string): boolean {
  const isIssued = certificate.isTrusted && issuerOf(certificate.issuer) !== undefined;
  return isIssued && identityOfSpiffeId(principal)?.role === "resolver";
}

/** Length of `Bearer` followed by a space. */
const BEARER_WORD = 7;
