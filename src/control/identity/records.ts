/**
 * The records of an authority in the control store: their keys and their JSON. They contain names, digests and public certificates, but never a
 * secret or a private key, so that a copy of the store cannot be used to issue certificates.
 */
import { IDENTITY_ROLES, type IdentityRole } from "../../lib/certificates/spiffe.ts";
import { count, decoderOf, type Fields, flag, text, wordOf } from "../leadership/records.ts";

/** Prefix of the records that every node copies: roots, issuers, revocations and callers' tokens. */
export const TRUST = "trust/";
/** Prefixes of keys. After `ROOTS` and `ISSUERS` the digest of a public key follows, after `TOKENS` an id, and after `NAMES` a role and a name. */
export const ROOTS = `${TRUST}roots/`;
/** The record that the first root is written with. */
export const ROOT_GUARD = "identity/first-root";
export const ISSUERS = `${TRUST}issuers/`;
export const TOKENS = "identity/tokens/";
export const NAMES = "identity/names/";
/** After it, `name/<role>/<name>` or `issuer/<id of the key>` follows. */
export const REVOCATIONS = `${TRUST}revocations/`;
/** The key of the join policy (`codec.ts`). */
export const JOIN_POLICY = "identity/policy";
/** Tokens of callers. An accessor id follows. */
export const CREDENTIALS = `${TRUST}credentials/`;

/** Maximum length of certificates in PEM. */
const MAX_CERTIFICATES_LENGTH = 16_384;
/** Maximum number of DNS names in a token and in a certificate. */
const MAX_DNS_NAMES = 16;
/** Maximum number of roles of a caller's token. */
const MAX_ROLES = 64;
/** Number of earlier keys that a record keeps. A request with one of them shows that a key was copied. */
export const MAX_EARLIER_KEYS = 16;

/** A join token. Its secret is shown once, and only its digest is stored. */
export interface TokenRecord {
  readonly secretDigest: string;
  readonly clusterId: string;
  readonly role: IdentityRole;
  /** The only name that the token admits. Empty if the newcomer chooses its name. */
  readonly name: string;
  readonly dnsNames: readonly string[];
  /** Number of programs that the token can admit, and that it has admitted. */
  readonly uses: number;
  readonly used: number;
  readonly createdBy: string;
  readonly createdWallMs: number;
  readonly expiresWallMs: number;
}

/** The holder of a name. A name has one key. */
export interface NameRecord {
  /** SHA-256 of the public key, in hex. */
  readonly keyDigest: string;
  /** The keys before this one, newest first. */
  readonly earlierKeys: readonly string[];
  readonly dnsNames: readonly string[];
  /** The node that issued the certificate, and the digest of its issuing key. */
  readonly issuer: string;
  readonly issuerKey: string;
  /** The token that admitted the holder. Empty if it was not admitted by a token. */
  readonly tokenId: string;
  /** `<issuer in the join policy>/<subject>` of the attestation that admitted the holder. Empty without an attestation. */
  readonly attestedBy: string;
  readonly madeWallMs: number;
  readonly expiresWallMs: number;
  /** The latest end of all certificates that were made for the name. */
  readonly lastEndWallMs: number;
  /** Certificates that were made before this time were revoked. 0 if none was. */
  readonly leastMadeWallMs: number;
  readonly isRevoked: boolean;
}

/** An authority whose certificates are accepted. */
export interface RootRecord {
  readonly certificate: string;
  readonly publishedWallMs: number;
}

/** A node that issues certificates. */
export interface IssuerRecord {
  readonly nodeId: string;
  /** `host:port` of its fabric listener. */
  readonly address: string;
  readonly rootKey: string;
  readonly expiresWallMs: number;
}

/** A revocation. It is removed when all certificates that it concerns have ended. */
export interface RevocationRecord {
  /** Certificates that were made before do not count. 0 for an issuer, whose certificates never count. */
  readonly beforeWallMs: number;
  readonly untilWallMs: number;
  readonly reason: string;
  readonly revokedBy: string;
  readonly revokedWallMs: number;
}

/** A caller's token. Its secret is shown once, and only its digest is stored. */
export interface CredentialRecord {
  readonly digest: string;
  readonly principal: string;
  readonly tenant: string;
  readonly roles: readonly string[];
  readonly createdBy: string;
  readonly createdWallMs: number;
  readonly expiresWallMs: number;
}

export type NameKey = Pick<NamedIdentity, "name" | "role">;

/** A name and its role within the cluster. */
export interface NamedIdentity {
  readonly role: IdentityRole;
  readonly name: string;
  readonly record: NameRecord;
}

export function nameKey({ role, name }: NameKey): string {
  return `${NAMES}${role}/${name}`;
}

/** The role and the name in a key. Undefined for other keys. */
export function nameOfKey(key: string): NameKey | undefined {
  const [found, name] = key.slice(NAMES.length).split("/");
  const role = IDENTITY_ROLES.find((each) => each === found);
  return role === undefined || name === undefined ? undefined : { role, name };
}

/** Encodes a record without cutting its texts, because a cut certificate is invalid. */
export function encodeIdentity(record: object): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(record));
}

function certificate(value: unknown): string {
  if (typeof value !== "string" || value.length > MAX_CERTIFICATES_LENGTH) throw new TypeError("no certificate");
  return value;
}

function texts(max: number): (value: unknown) => readonly string[] {
  return (value) => {
    if (!Array.isArray(value) || value.length > max) throw new TypeError("no list");
    return value.map(text);
  };
}

const TOKEN: Fields<TokenRecord> = {
  secretDigest: text,
  clusterId: text,
  role: wordOf(IDENTITY_ROLES),
  name: text,
  dnsNames: texts(MAX_DNS_NAMES),
  uses: count,
  used: count,
  createdBy: text,
  createdWallMs: count,
  expiresWallMs: count,
};
const NAME: Fields<NameRecord> = {
  keyDigest: text,
  earlierKeys: texts(MAX_EARLIER_KEYS),
  dnsNames: texts(MAX_DNS_NAMES),
  issuer: text,
  issuerKey: text,
  tokenId: text,
  // Records of earlier versions do not have it.
  attestedBy: (value) => text(value ?? ""),
  madeWallMs: count,
  expiresWallMs: count,
  lastEndWallMs: count,
  leastMadeWallMs: count,
  isRevoked: flag,
};
const ROOT: Fields<RootRecord> = { certificate, publishedWallMs: count };
const ISSUER: Fields<IssuerRecord> = { nodeId: text, address: text, rootKey: text, expiresWallMs: count };

const REVOCATION: Fields<RevocationRecord> = {
  beforeWallMs: count,
  untilWallMs: count,
  reason: text,
  revokedBy: text,
  revokedWallMs: count,
};
const CREDENTIAL: Fields<CredentialRecord> = {
  digest: text,
  principal: text,
  tenant: text,
  roles: texts(MAX_ROLES),
  createdBy: text,
  createdWallMs: count,
  expiresWallMs: count,
};

export const decodeRevocation = decoderOf(REVOCATION);
export const decodeCredential = decoderOf(CREDENTIAL);
export const decodeToken = decoderOf(TOKEN);
export const decodeName = decoderOf(NAME);
export const decodeRoot = decoderOf(ROOT);
export const decodeIssuer = decoderOf(ISSUER);
