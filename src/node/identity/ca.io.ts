/** Makes the offline part of an authority, roots and issuing certificates, and reads the issuing certificate of a node. */
import { createPrivateKey, type KeyObject, randomBytes, X509Certificate } from "node:crypto";
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Settings } from "../../config/settings.ts";
import { Issuer } from "../../control/identity/issuer.ts";
import { type CertificateName, signCertificate } from "../../lib/certificates/certificate.ts";
import { issuerKeyOf } from "../../lib/certificates/revocations.ts";
import { readAlternativeNames, SPIFFE } from "../../lib/certificates/spiffe.ts";
import { P256PrivateKey, p256PrivateKey, sha256Hex } from "../../lib/crypto.ts";
import { DAY_MS } from "../../lib/duration.ts";
import { MAX_PEM_BYTES, readCertificates, readNamedFile } from "../../lib/named-file.io.ts";
import { makePrivateDirectory, writePrivateFile } from "../../lib/private-directory.io.ts";
import { IdentityDirectory, keyPem, newKey } from "./directory.io.ts";

const ROOT_MS = 3650 * DAY_MS;
const INTERMEDIATE_MS = 365 * DAY_MS;
/** Certificates start earlier by this time, so that they are valid on machines whose clocks are late. */
const AUTHORITY_BACKDATE_MS = DAY_MS;
const SERIAL_BYTES = 16;

export interface RootFacts {
  readonly trustDomain: string;
  /** SHA-256 of the public key, in hex. */
  readonly digest: string;
  readonly notAfterWallMs: number;
}

export interface IssuerName {
  readonly clusterId: string;
  readonly nodeId: string;
}

/** Makes a root in a directory: `root.pem` and `root-key.pem`. Throws if the directory has one. */
export function makeRoot(directory: string, trustDomain: string, wallMs: number): RootFacts {
  const [certificateFile, keyFile] = rootFiles(directory);
  if (existsSync(keyFile)) throw new Error(`${keyFile} exists already; choose another directory with --ca-dir`);
  const key = newKey();
  const signing = new P256PrivateKey(key);
  const digest = sha256Hex(signing.publicKey);
  const subject = { unit: "", name: `${trustDomain} ${digest.slice(0, 8)}`.slice(-64) };
  const certificate = signed(
    { kind: "root", subject, publicKey: signing.publicKey, trustDomain, lengthMs: ROOT_MS, wallMs },
    subject,
    signing,
  );
  makePrivateDirectory(directory);
  writePrivateFile(keyFile, keyPem(key));
  writePrivateFile(certificateFile, certificate);
  return { trustDomain, digest, notAfterWallMs: wallMs + ROOT_MS };
}

/** Makes an issuing certificate for a node, and keeps it in the node's data directory. Returns its end. */
export function makeIntermediate(directory: string, { clusterId, nodeId }: IssuerName, dataDir: string, wallMs: number): number {
  const [certificateFile, keyFile] = rootFiles(directory);
  if (!existsSync(keyFile))
    throw new Error(`${keyFile} does not exist; make a root with waymark ca init, or name its directory with --ca-dir`);
  const rootPem = readCertificates("root.pem", certificateFile).toString();
  const root = new X509Certificate(rootPem);
  const rootKey = readKey("root-key.pem", keyFile);
  if (!root.checkPrivateKey(createPrivateKey(readNamedFile({ setting: "root-key.pem", path: keyFile, maxBytes: MAX_PEM_BYTES }))))
    throw new Error(`${keyFile} is not the key of ${certificateFile}`);
  const key = newKey();
  const publicKey = new P256PrivateKey(key).publicKey;
  const subject = { unit: clusterId, name: nodeId, serial: issuerKeyOf(publicKey) };
  const lengthMs = Math.min(INTERMEDIATE_MS, root.validToDate.getTime() - wallMs);
  const facts = { kind: "intermediate", subject, publicKey, trustDomain: trustDomainOf(root), lengthMs, wallMs } as const;
  const own = new IdentityDirectory(dataDir);
  checkIssuerName(own, subject);
  own.keepIssuer(key, signed(facts, { unit: "", name: commonNameOf(root) }, rootKey) + rootPem);
  return wallMs + lengthMs;
}

/** Throws if the directory has the issuing certificate of another node. */
function checkIssuerName({ issuerFile }: IdentityDirectory, { unit, name }: CertificateName): void {
  if (!existsSync(issuerFile)) return;
  const held = nameOf(new X509Certificate(readCertificates("issuer.pem", issuerFile)));
  if (held.unit !== unit || held.name !== name)
    throw new Error(`${issuerFile} belongs to node ${held.name} of cluster ${held.unit}; name another directory with --data-dir`);
}

/** Opens the issuer of a node. Undefined for a node that is not an issuer. Throws an error that names the setting or the file. */
export function openIssuer({ identity, persistence, node }: Settings): Issuer | undefined {
  const own = new IdentityDirectory(persistence.dataDir);
  const certFile = identity.issuerCertFile ?? own.issuerFile;
  const keyFile = identity.issuerKeyFile ?? own.issuerKeyFile;
  if (identity.issuerCertFile === undefined && !existsSync(certFile)) return undefined;
  const [setting, keySetting] = ["identity.issuer_cert_file", "identity.issuer_key_file"];
  const pem = readCertificates(setting, certFile).toString();
  const [certificate = "", root = ""] = pem.split(/(?=-----BEGIN CERTIFICATE-----)/).filter((block) => block.startsWith("-----BEGIN"));
  const key = readKey(keySetting, keyFile);
  const issuing = new X509Certificate(certificate);
  if (root === "") throw new Error(`${setting}: ${certFile} must contain the issuing certificate, followed by its root`);
  const rootCertificate = new X509Certificate(root);
  if (!issuing.ca || !issuing.verify(rootCertificate.publicKey))
    throw new Error(`${setting}: ${certFile}: the second certificate has not issued the first`);
  if (!issuing.checkPrivateKey(createPrivateKey(readNamedFile({ setting: keySetting, path: keyFile, maxBytes: MAX_PEM_BYTES }))))
    throw new Error(`${keySetting}: ${keyFile} is not the key of ${certFile}`);
  const { unit: clusterId, name: nodeId } = nameOf(issuing);
  if (clusterId === "" || (node.id ?? nodeId) !== nodeId)
    throw new Error(`${setting}: ${certFile} is for node ${nodeId} of cluster ${clusterId}, and node.id is ${node.id ?? ""}`);
  const rootDigest = sha256Hex(spkiOf(rootCertificate.publicKey));
  const notAfterWallMs = issuing.validToDate.getTime();
  const trustDomain = trustDomainOf(rootCertificate);
  return new Issuer({ trustDomain, clusterId, nodeId, certificate, root, rootDigest, key, notAfterWallMs, random: randomBytes });
}

export function spkiOf(key: KeyObject): Uint8Array {
  return key.export({ format: "der", type: "spki" });
}

function rootFiles(directory: string): readonly [certificate: string, key: string] {
  return [join(directory, "root.pem"), join(directory, "root-key.pem")];
}

function readKey(setting: string, path: string): P256PrivateKey {
  const key = p256PrivateKey(readNamedFile({ setting, path, maxBytes: MAX_PEM_BYTES }).toString());
  if (key === undefined) throw new Error(`${setting}: ${path} must contain a private key on the curve P-256, in PEM without a password`);
  return key;
}

function signed(
  facts: {
    readonly kind: "intermediate" | "root";
    readonly subject: CertificateName;
    readonly publicKey: Uint8Array;
    readonly trustDomain: string;
    readonly lengthMs: number;
    readonly wallMs: number;
  },
  by: CertificateName,
  key: P256PrivateKey,
): string {
  const { trustDomain, lengthMs, wallMs, ...rest } = facts;
  const times = { notBeforeWallMs: wallMs - AUTHORITY_BACKDATE_MS, notAfterWallMs: wallMs + lengthMs };
  return signCertificate(
    { ...rest, ...times, serial: randomBytes(SERIAL_BYTES), uri: SPIFFE + trustDomain, dnsNames: [] },
    { subject: by, key },
  );
}

/** The name of the subject, as `signCertificate` writes it. */
function nameOf({ subject }: X509Certificate): CertificateName {
  const fields = new Map(subject.split("\n").map((line) => [line.slice(0, line.indexOf("=")), line.slice(line.indexOf("=") + 1)]));
  return { unit: fields.get("OU") ?? "", name: fields.get("CN") ?? "" };
}

function commonNameOf(certificate: X509Certificate): string {
  return nameOf(certificate).name;
}

function trustDomainOf({ subjectAltName = "" }: X509Certificate): string {
  const [uri = ""] = readAlternativeNames(subjectAltName)?.uris ?? [];
  if (!uri.startsWith(SPIFFE)) throw new Error("the root does not name a trust domain; make one with waymark ca init");
  return uri.slice(SPIFFE.length);
}
