/**
 * The identity of a node on disk: `identity/` in the data directory. A private key and its certificate are one file, so that a crash or a full disk
 * never leaves a key without its certificate.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject, X509Certificate } from "node:crypto";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { REVOCATIONS, TRUST } from "../../control/identity/records.ts";
import { TrustCopy } from "../../control/identity/trust.ts";
import { BACKDATE_MS, issuerOf } from "../../lib/certificates/revocations.ts";
import { certificatesIn } from "../../lib/certificates/roots.io.ts";
import { identityOfSpiffeId, readAlternativeNames, type SpiffeIdentity, spiffeIdOf } from "../../lib/certificates/spiffe.ts";
import { P256PrivateKey } from "../../lib/crypto.ts";
import { MAX_PEM_BYTES, readNamedFile } from "../../lib/named-file.io.ts";
import { makePrivateDirectory, writePrivateFile } from "../../lib/private-directory.io.ts";
import { DATA_FILES } from "../../store/data-directory.ts";

/** A key, and its certificate as far as its owner needs to know it. */
export interface OwnCertificate extends SpiffeIdentity {
  readonly certificate: X509Certificate;
  readonly key: P256PrivateKey;
  /** The id of the issuer's key. */
  readonly issuerKey: string;
  readonly madeWallMs: number;
  readonly expiresWallMs: number;
}

/** The copies of several clusters, in JSON. */
const MAX_TRUST_FILE_BYTES = 1 << 28;

export class IdentityDirectory {
  readonly #path: string;

  constructor(dataDir: string) {
    this.#path = join(dataDir, DATA_FILES.identity);
  }

  /** The private key, the certificate and the certificate of its issuer, in one PEM file. */
  get nodeFile(): string {
    return join(this.#path, "node.pem");
  }

  get rootsFile(): string {
    return join(this.#path, "roots.pem");
  }

  /** The issuing certificate and its root, on an issuer. */
  get issuerFile(): string {
    return join(this.#path, "issuer.pem");
  }

  get issuerKeyFile(): string {
    return join(this.#path, "issuer-key.pem");
  }

  get #trustFile(): string {
    return join(this.#path, "trust.json");
  }

  get #nextFile(): string {
    return join(this.#path, "next-key.pem");
  }

  get hasIdentity(): boolean {
    return existsSync(this.nodeFile);
  }

  /** Whether `waymark mesh join` has begun, but has not succeeded. */
  get isJoining(): boolean {
    return !this.hasIdentity && existsSync(this.#nextFile);
  }

  /** Reads the identity. Throws an error that names the file. */
  read(): OwnCertificate {
    return ownCertificate(this.nodeFile);
  }

  get roots(): Buffer {
    return readNamedFile({ setting: "identity", path: this.rootsFile, maxBytes: MAX_PEM_BYTES });
  }

  /** The private key and the certificate of this node. */
  get nodePem(): Buffer {
    return readNamedFile({ setting: "identity", path: this.nodeFile, maxBytes: MAX_PEM_BYTES });
  }

  /** Returns the copies of all clusters, as they were last kept. There is always a copy for `clusterId`. */
  readTrust(clusterId: string): ReadonlyMap<string, TrustCopy> {
    return new Map(
      [[clusterId, {}] as const, ...entriesOf(this.#readTrustFile())].map(([id, records]) => {
        const copy = new TrustCopy(id, id === clusterId ? TRUST : REVOCATIONS);
        copy.apply(entriesOf(records).map(([key, text]) => ({ key, value: Buffer.from(String(text)) })));
        return [id, copy];
      }),
    );
  }

  /** Returns the copy of one cluster, as it was last kept. */
  copyOf(clusterId: string): TrustCopy {
    return this.readTrust(clusterId).get(clusterId) ?? new TrustCopy(clusterId);
  }

  #readTrustFile(): unknown {
    if (!existsSync(this.#trustFile)) return {};
    const bytes = readNamedFile({ setting: "identity", path: this.#trustFile, maxBytes: MAX_TRUST_FILE_BYTES });
    try {
      return JSON.parse(bytes.toString());
    } catch (cause) {
      throw new Error(`identity: ${this.#trustFile} is damaged; remove it, and the node copies its records again`, { cause });
    }
  }

  keepTrust(copies: ReadonlyMap<string, TrustCopy>): void {
    const textsOf = ({ records }: TrustCopy) =>
      Object.fromEntries([...records].map(([key, value]) => [key, Buffer.from(value).toString()]));
    this.#write(this.#trustFile, JSON.stringify(Object.fromEntries([...copies].map(([id, copy]) => [id, textsOf(copy)]))));
  }

  /** Returns the key for the next certificate. It is on disk before it is used, so that a repeated request has the same key. */
  nextKey(): KeyObject {
    if (existsSync(this.#nextFile))
      return createPrivateKey(readNamedFile({ setting: "identity", path: this.#nextFile, maxBytes: MAX_PEM_BYTES }));
    const key = newKey();
    this.#write(this.#nextFile, keyPem(key));
    return key;
  }

  /** Keeps a certificate for the next key, which becomes the current key. */
  keep(key: KeyObject, certificates: string): void {
    this.#write(this.nodeFile, keyPem(key) + certificates);
    rmSync(this.#nextFile, { force: true });
  }

  /** Replaces the key, the certificates and the roots with files from another authority, for this SPIFFE id. Returns whether they have changed. */
  replace(node: string, roots: string, spiffeId: string): boolean {
    if (certificatesIn(roots).length === 0) throw new Error("there are no roots");
    if (spiffeIdOf(parsedCertificate(node, this.nodeFile)) !== spiffeId)
      throw new Error(`the certificate from the agent does not have the SPIFFE id ${spiffeId}`);
    if (this.hasIdentity && this.nodePem.toString() === node && this.roots.toString() === roots) return false;
    this.keepRoots(roots);
    this.#write(this.nodeFile, node);
    return true;
  }

  keepRoots(roots: string): void {
    this.#write(this.rootsFile, roots);
  }

  /** Keeps an issuing certificate with its root. */
  keepIssuer(key: KeyObject, certificates: string): void {
    this.#write(this.issuerKeyFile, keyPem(key));
    this.#write(this.issuerFile, certificates);
  }

  #write(path: string, text: string): void {
    makePrivateDirectory(this.#path);
    writePrivateFile(path, text);
  }
}

export function newKey(): KeyObject {
  return generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
}

export function keyPem(key: KeyObject): string {
  return key.export({ format: "pem", type: "pkcs8" }).toString();
}

function entriesOf(object: unknown): readonly (readonly [string, unknown])[] {
  return Object.entries(object ?? {});
}

/** Reads a file with a private key, a certificate and the certificate of its issuer. */
function ownCertificate(path: string): OwnCertificate {
  return parsedCertificate(readNamedFile({ setting: "identity", path, maxBytes: MAX_PEM_BYTES }), path);
}

function parsedCertificate(pem: string | Buffer, path: string): OwnCertificate {
  const certificate = new X509Certificate(pem);
  const key = createPrivateKey(pem);
  const [uri = "", ...others] = readAlternativeNames(certificate.subjectAltName ?? "")?.uris ?? [];
  const identity = others.length > 0 ? undefined : identityOfSpiffeId(uri);
  if (identity === undefined || !certificate.checkPrivateKey(key))
    throw new Error(`identity: ${path} must contain a private key and its certificate, with one Waymark SPIFFE id`);
  const madeWallMs = certificate.validFromDate.getTime() + BACKDATE_MS;
  const issuerKey = issuerOf(certificate.issuer)?.key ?? "";
  const expiresWallMs = certificate.validToDate.getTime();
  return { ...identity, certificate, key: new P256PrivateKey(key), issuerKey, madeWallMs, expiresWallMs };
}
