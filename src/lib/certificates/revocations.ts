/** Decides whether a certificate was revoked: by the name of its holder, or by the key of its issuer. */
import { sha256Hex } from "../crypto.ts";
import { identityOfSpiffeId, readAlternativeNames } from "./spiffe.ts";

/** Certificates of Waymark issuers start earlier by this time, so that they are valid for programs whose clocks are late. */
export const BACKDATE_MS = 300_000;
const KEY_DIGITS = 16;

/** The revocations that are in force. */
export interface Revocations {
  /** By `<cluster>/<role>/<name>`: certificates that were made before this time do not count. */
  readonly names: ReadonlyMap<string, number>;
  /** Issuers, as `<cluster>/<issuerKeyOf>`. No certificate of such an issuer counts, because a thief can make certificates with any time. */
  readonly issuers: ReadonlySet<string>;
}

export const NO_REVOCATIONS: Revocations = { names: new Map(), issuers: new Set() };

/** Joins the revocations of several clusters. */
export function mergedRevocations(all: readonly Revocations[]): Revocations {
  return { names: new Map(all.flatMap(({ names }) => [...names])), issuers: new Set(all.flatMap(({ issuers }) => [...issuers])) };
}

/** The fields of a certificate that decide, in the form of Node's `X509Certificate`. */
export interface RevocableCertificate {
  readonly subjectAltName: string;
  readonly issuer: string;
  readonly validFromWallMs: number;
}

/** The id of an issuer's key, from its SubjectPublicKeyInfo in DER. */
export function issuerKeyOf(publicKey: Uint8Array): string {
  return sha256Hex(publicKey).slice(0, KEY_DIGITS);
}

/** The Waymark issuer of a certificate, from `X509Certificate.issuer`: its cluster and its key. Undefined for certificates of other authorities. */
export function issuerOf(issuer: string): { readonly clusterId: string; readonly key: string } | undefined {
  const lines = issuer.split("\n");
  const field = (name: string) => lines.find((line) => line.startsWith(`${name}=`))?.slice(name.length + 1) ?? "";
  const clusterId = field("OU");
  return lines.includes("O=Waymark") && clusterId !== "" ? { clusterId, key: field("serialNumber") } : undefined;
}

/** Returns why a certificate does not count. Undefined if it counts. */
export function revocationOf(certificate: RevocableCertificate, { names, issuers }: Revocations): string | undefined {
  const issuer = issuerOf(certificate.issuer);
  if (issuer !== undefined && issuers.has(`${issuer.clusterId}/${issuer.key}`)) return "the issuer of this certificate was revoked";
  if (names.size === 0) return undefined;
  const [uri = ""] = readAlternativeNames(certificate.subjectAltName)?.uris ?? [];
  const identity = identityOfSpiffeId(uri);
  if (identity === undefined) return undefined;
  const { clusterId, role, name } = identity;
  const before = names.get(`${clusterId}/${role}/${name}`);
  if (before === undefined || certificate.validFromWallMs + BACKDATE_MS >= before) return undefined;
  return `the certificate of ${role} ${name} was revoked`;
}
