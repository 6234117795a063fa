/** Reads certificates in PEM texts, and finds the root of a certificate among them. */
import { X509Certificate } from "node:crypto";
import { sha256Hex } from "../crypto.ts";

const BLOCK = /-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----[^-]*-----END [A-Z0-9 ]+-----/g;
/** Number of digits of the id of a root. */
export const ROOT_ID_LENGTH = 16;
const MAX_ROOTS = 16;
const MAX_NAME_LENGTH = 64;

/** Throws for a certificate that cannot be read. */
export function certificatesIn(pem: string): readonly X509Certificate[] {
  return (pem.match(BLOCK) ?? []).map((block) => new X509Certificate(block));
}

/** SHA-256 of the public key of a root, in hex. Its first digits are the id of the root. */
export function rootDigestOf(root: X509Certificate): string {
  return sha256Hex(root.publicKey.export({ format: "der", type: "spki" }));
}

/** The common name in a name of `X509Certificate`. Empty for a name without one. */
export function commonNameIn(name: string): string {
  return (/^CN=(.*)$/m.exec(name)?.[1] ?? "").slice(0, MAX_NAME_LENGTH);
}

/**
 * Reads the use of a certificate, which is the first in `chain`, by a node that accepts the roots in `trusted`. `root` is empty if the node does not
 * accept the root of its own certificate.
 */
export function readCertificateUse(chain: string, trusted: string) {
  const own = certificatesIn(chain);
  const roots = certificatesIn(trusted);
  const root = roots.find((each) => own.some((one) => one.checkIssued(each) && one.verify(each.publicKey)));
  const ids = [...new Set(roots.map(idOf))].slice(0, MAX_ROOTS);
  const expiresS = Math.floor((own[0]?.validToDate.getTime() ?? 0) / 1000);
  return { issuer: commonNameIn(own[0]?.issuer ?? ""), expiresS, root: root === undefined ? "" : idOf(root), roots: ids };
}

function idOf(root: X509Certificate): string {
  return rootDigestOf(root).slice(0, ROOT_ID_LENGTH);
}
