/** Reads the roots in PEM texts, and finds the root of a certificate among them. */
import { X509Certificate } from "node:crypto";
import { sha256Hex } from "../crypto.ts";
import { issuerKeyOf } from "./revocations.ts";

export interface RootCertificate {
  /** SHA-256 of its public key, in hex. Its first digits are the id of the root. */
  readonly digest: string;
  readonly name: string;
  readonly expiresWallMs: number;
  readonly isAuthority: boolean;
  /** PEM. */
  readonly certificate: string;
}

/** A certificate that a node uses, and the roots that the node accepts. */
export interface CertificateUse {
  readonly issuer: string;
  readonly expiresS: number;
  /** Empty if the node does not accept the root of its own certificate. */
  readonly root: string;
  readonly roots: readonly string[];
}

const BLOCK = /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[^-]*-----END [A-Z0-9 ]+-----/g;
const MAX_ROOTS = 16;
const MAX_NAME_LENGTH = 64;

/** Throws for a certificate that cannot be read. */
export function readRoots(pem: string): readonly RootCertificate[] {
  return certificatesIn(pem).map((root) => ({
    digest: sha256Hex(spkiOf(root)),
    name: commonNameIn(root.subject),
    expiresWallMs: root.validToDate.getTime(),
    isAuthority: root.ca,
    certificate: root.toString(),
  }));
}

/** Reads the use of a certificate, which is the first in `chain`, by a node that accepts the roots in `trusted`. */
export function readCertificateUse(chain: string, trusted: string): CertificateUse {
  const own = certificatesIn(chain);
  const roots = certificatesIn(trusted);
  const root = roots.find((each) => own.some((one) => one.checkIssued(each) && one.verify(each.publicKey)));
  return {
    issuer: commonNameIn(own[0]?.issuer ?? ""),
    expiresS: Math.floor((own[0]?.validToDate.getTime() ?? 0) / 1000),
    root: root === undefined ? "" : idOf(root),
    roots: [...new Set(roots.map(idOf))].slice(0, MAX_ROOTS),
  };
}

function certificatesIn(pem: string): readonly X509Certificate[] {
  return (pem.match(BLOCK) ?? []).map((block) => new X509Certificate(block));
}

function idOf(root: X509Certificate): string {
  return issuerKeyOf(spkiOf(root));
}

function spkiOf({ publicKey }: X509Certificate): Uint8Array {
  return publicKey.export({ format: "der", type: "spki" });
}

function commonNameIn(name: string): string {
  return (/^CN=(.*)$/m.exec(name)?.[1] ?? "").slice(0, MAX_NAME_LENGTH);
}
