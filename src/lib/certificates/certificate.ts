/**
 * Signs X.509 certificates (RFC 5280) with the three profiles of an authority: a root, an intermediate that signs leaves only, and a leaf for TLS
 * servers and clients with one SPIFFE id (SPIFFE X.509-SVID, section 4). All keys are on the curve P-256, which browsers and Java accept too.
 */
import { parseAddress } from "../addresses.ts";
import { type P256PrivateKey, sha256 } from "../crypto.ts";
import { bitString, element, integer, objectId, octetString, sequence, set, time, utf8String } from "./der.ts";

/** The subject of a certificate. Empty fields are omitted. */
export interface CertificateName {
  readonly unit: string;
  readonly name: string;
  /** On an issuer, the id of its key (`issuerKeyOf`), which a leaf repeats in the name of its issuer. */
  readonly serial?: string;
}

export interface CertificateFacts {
  readonly kind: "intermediate" | "leaf" | "root";
  readonly subject: CertificateName;
  /** SubjectPublicKeyInfo in DER. */
  readonly publicKey: Uint8Array;
  /** Random bytes, at most 20. */
  readonly serial: Uint8Array;
  readonly notBeforeWallMs: number;
  readonly notAfterWallMs: number;
  readonly uri: string;
  /** DNS names and IP addresses. */
  readonly dnsNames: readonly string[];
}

/** The signer of a certificate. A root signs itself. */
export interface CertificateSigner {
  readonly subject: CertificateName;
  readonly key: P256PrivateKey;
}

const ORGANIZATION = "Waymark";
const ID = {
  ecdsaWithSha256: "1.2.840.10045.4.3.2",
  commonName: "2.5.4.3",
  serialNumber: "2.5.4.5",
  organization: "2.5.4.10",
  organizationalUnit: "2.5.4.11",
  subjectKeyId: "2.5.29.14",
  keyUsage: "2.5.29.15",
  alternativeNames: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  authorityKeyId: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
  serverAuth: "1.3.6.1.5.5.7.3.1",
  clientAuth: "1.3.6.1.5.5.7.3.2",
} as const;
const TRUE = element(0x01, Uint8Array.of(0xff));
const NUMBER_OF_KEY_ID_BYTES = 20;

/** Returns the certificate in PEM. */
export function signCertificate(facts: CertificateFacts, by: CertificateSigner): string {
  const algorithm = sequence(objectId(ID.ecdsaWithSha256));
  const validity = sequence(time(facts.notBeforeWallMs), time(facts.notAfterWallMs));
  const version3 = element(0xa0, integer(Uint8Array.of(2)));
  const extensions = element(0xa3, sequence(...extensionsOf(facts, by.key.publicKey)));
  const names = [nameOf(by.subject), validity, nameOf(facts.subject)];
  const content = sequence(version3, integer(facts.serial), algorithm, ...names, facts.publicKey, extensions);
  return pem("CERTIFICATE", sequence(content, algorithm, bitString(by.key.sign(content))));
}

export function pem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

function nameOf({ unit, name, serial = "" }: CertificateName): Uint8Array {
  const part = (id: string, text: string) => (text === "" ? [] : [set(sequence(objectId(id), utf8String(text)))]);
  const all = [
    part(ID.organization, ORGANIZATION),
    part(ID.organizationalUnit, unit),
    part(ID.commonName, name),
    part(ID.serialNumber, serial),
  ];
  return sequence(...all.flat());
}

function extensionsOf({ kind, publicKey, uri, dnsNames }: CertificateFacts, signer: Uint8Array): readonly Uint8Array[] {
  const isAuthority = kind !== "leaf";
  const pathLength = kind === "intermediate" ? [integer(Uint8Array.of(0))] : [];
  const constraints = isAuthority ? sequence(TRUE, ...pathLength) : sequence();
  // An authority signs certificates and revocation lists, and a leaf signs TLS handshakes.
  const usage = isAuthority ? bitString(Uint8Array.of(0x06), 1) : bitString(Uint8Array.of(0x80), 7);
  const names = [element(0x86, Buffer.from(uri)), ...dnsNames.map(serverName)];
  return [
    extension(ID.basicConstraints, constraints, true),
    extension(ID.keyUsage, usage, true),
    ...(isAuthority ? [] : [extension(ID.extendedKeyUsage, sequence(objectId(ID.serverAuth), objectId(ID.clientAuth)))]),
    extension(ID.subjectKeyId, octetString(keyIdOf(publicKey))),
    ...(kind === "root" ? [] : [extension(ID.authorityKeyId, sequence(element(0x80, keyIdOf(signer))))]),
    extension(ID.alternativeNames, sequence(...names)),
  ];
}

/** Clients that dial an address look for it among the addresses of a certificate, and not among its DNS names. */
function serverName(name: string): Uint8Array {
  const address = parseAddress(name);
  return address === undefined ? element(0x82, Buffer.from(name)) : element(0x87, Uint8Array.from(address));
}

function extension(id: string, value: Uint8Array, isCritical = false): Uint8Array {
  return sequence(objectId(id), ...(isCritical ? [TRUE] : []), octetString(value));
}

/** Any value that is unique to the key is allowed (RFC 7093). */
function keyIdOf(publicKey: Uint8Array): Uint8Array {
  return sha256(publicKey).subarray(0, NUMBER_OF_KEY_ID_BYTES);
}
