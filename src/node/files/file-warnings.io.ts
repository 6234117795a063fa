/** Warns about files that the settings name: secrets that other users can read, short tokens, unknown signing keys, and certificates that are not valid today. */
import { X509Certificate } from "node:crypto";
import { statSync } from "node:fs";
import type { Settings } from "../../config/settings.ts";
import { BACKDATE_MS } from "../../lib/certificates/revocations.ts";
import { MAX_PEM_BYTES, MAX_TOKEN_FILE_BYTES, readNamedFile } from "../../lib/named-file.io.ts";
import type { CertificateEnd } from "../findings/findings.ts";
import { IdentityDirectory } from "../identity/directory.io.ts";
import { keyWarnings } from "../regions/key-faults.io.ts";

/** Shorter tokens can be guessed. */
const MIN_TOKEN_CHARS = 16;
const OTHERS_READ = 0o004;

interface SecretFile {
  readonly setting: string;
  readonly path: string | undefined;
  readonly isToken: boolean;
}

/**
 * Returns the warnings. Each warning is one line that names the setting and the file, and never contains file content. A start handles missing files
 * separately, by refusing them.
 */
export function fileWarnings(settings: Settings, wallMs = Date.now()): readonly string[] {
  return [...secretFiles(settings).flatMap(secretWarnings), ...certificateWarnings(settings, wallMs), ...keyWarnings(settings)];
}

/** Returns warnings about the credential files that a running node reads again. */
export function credentialWarnings({ tenants }: Settings): readonly string[] {
  return credentialFiles(tenants).flatMap(secretWarnings);
}

function secretWarnings({ setting, path, isToken }: SecretFile): readonly string[] {
  if (path === undefined) return [];
  try {
    const mode = statSync(path).mode;
    const isReadable = (mode & OTHERS_READ) !== 0;
    const isShort =
      isToken && readNamedFile({ setting, path, maxBytes: MAX_TOKEN_FILE_BYTES }).toString("utf8").trimEnd().length < MIN_TOKEN_CHARS;
    return [
      ...(isReadable ? [`${setting}: ${path} is readable by every user of this machine: run chmod 600 on it`] : []),
      ...(isShort
        ? [`${setting}: the token in ${path} has fewer than ${MIN_TOKEN_CHARS} characters: generate one from 32 random bytes`]
        : []),
    ];
  } catch {
    // For a missing or unreadable file, the start fails with its own message.
    return [];
  }
}

/** Returns the certificates of the node that can be read. For a file that cannot, the start or the reload reports the fault. */
function certificatesOf({ tls, fabric, store }: Settings) {
  const files = [
    { setting: "tls.cert_file", path: tls.certFile },
    { setting: "fabric.cert_file", path: fabric.certFile },
    { setting: "store.cert_file", path: store.certFile },
  ];
  return files.flatMap(({ setting, path }) => {
    if (path === undefined) return [];
    try {
      return [{ setting, path, certificate: new X509Certificate(readNamedFile({ setting, path, maxBytes: MAX_PEM_BYTES })) }];
    } catch {
      return [];
    }
  });
}

export function certificateEnds(settings: Settings): readonly CertificateEnd[] {
  const { nodeFile } = new IdentityDirectory(settings.persistence.dataDir);
  return certificatesOf(settings).flatMap(({ setting, path, certificate }) => {
    const isRenewed = path === nodeFile;
    // With tls.source = "identity", two settings name this file.
    if (isRenewed && setting !== "fabric.cert_file") return [];
    const endWallMs = certificate.validToDate.getTime();
    const madeWallMs = certificate.validFromDate.getTime() + (isRenewed ? BACKDATE_MS : 0);
    return [{ setting: isRenewed ? "identity/node.pem" : setting, endWallMs, lifeMs: endWallMs - madeWallMs, isRenewed }];
  });
}

/** Warns about invalid certificates. They do not prevent a start, because they may be renewed while the node runs. */
function certificateWarnings(settings: Settings, wallMs: number): readonly string[] {
  return certificatesOf(settings).flatMap(({ setting, path, certificate: { validFromDate, validToDate } }) => {
    if (wallMs > validToDate.getTime())
      return [`${setting}: the certificate in ${path} expired at ${validToDate.toISOString()}: TLS handshakes will fail`];
    if (wallMs < validFromDate.getTime())
      return [
        `${setting}: the certificate in ${path} is not valid before ${validFromDate.toISOString()}: until then, TLS handshakes will fail`,
      ];
    return [];
  });
}

/**
 * Returns the secret files that the settings name. `summary.signing_key_file` is not included, because a start refuses a key file that other users
 * can read.
 */
function secretFiles({ tls, fabric, tenants, resolver, dns, store }: Settings): readonly SecretFile[] {
  return [
    { setting: "tls.key_file", path: tls.keyFile, isToken: false },
    { setting: "fabric.key_file", path: fabric.keyFile, isToken: false },
    { setting: "fabric.cluster_token_file", path: fabric.clusterTokenFile, isToken: false },
    ...fabric.borders.map(({ trust: { tokenFile: path } }, i) => ({
      setting: `fabric.borders[${i}].trust.token_file`,
      path,
      isToken: false,
    })),
    { setting: "store.key_file", path: store.keyFile, isToken: false },
    { setting: "store.password_file", path: store.passwordFile, isToken: false },
    { setting: "resolver.tls_key_file", path: resolver.tlsKeyFile, isToken: false },
    { setting: "resolver.token_file", path: resolver.tokenFile, isToken: true },
    ...credentialFiles(tenants),
    { setting: "dns.dnssec_key_file", path: dns.dnssecKeyFile, isToken: false },
    { setting: "dns.cookie_secret_file", path: dns.cookieSecretFile, isToken: false },
    ...dns.transferKeys.map(({ secretFile: path }, i) => ({ setting: `dns.transfer_keys[${i}].secret_file`, path, isToken: false })),
  ];
}

function credentialFiles({ credentials }: Settings["tenants"]): readonly SecretFile[] {
  return credentials.map((row, i) => ({ setting: `tenants.credentials[${i}].token_file`, path: row.tokenFile, isToken: true }));
}
