/** Checks the files that the settings name before anything is opened, and finds the faults that would prevent a start. */
import { accessSync, closeSync, constants, openSync, type Stats, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { createSecureContext } from "node:tls";
import type { Settings } from "../../config/settings.ts";
import { readCookieSecrets } from "../../dns/server/cookie-secrets.io.ts";
import { readZoneKeys } from "../../dns/signing/key-file.io.ts";
import { readTransferKeys } from "../../dns/transfer/key-files.io.ts";
import type { ClusterTokens } from "../../fabric/links/peer-auth.ts";
import { MAX_PEM_BYTES, readCertificates, readNamedFile, readRevocationLists, readToken } from "../../lib/named-file.io.ts";
import { APPENDING } from "../../store/audit/stream.io.ts";
import { readCredentials } from "../callers.io.ts";
import { readBorders, readTlsAndBorders } from "../fabric/borders.io.ts";
import { readClusterTokens } from "../fabric/secrets.io.ts";
import { readFileText } from "../policy-file.io.ts";
import { keyFaults } from "../regions/key-faults.io.ts";
import { readUpstreamAccess } from "../resolver/credentials.io.ts";

type TlsSettings = Pick<Settings["tls"], "certFile" | "keyFile" | "caFile"> & { readonly crlFile?: string | undefined };

/** Prefix of `cert_file`, `key_file` and `ca_file`. */
type TlsPrefix = "tls." | "fabric." | "store." | "resolver.tls_";

/** Returns the faults. Each fault is one line that names the setting and the file, and never contains file content. */
export async function fileFaults(settings: Settings): Promise<readonly string[]> {
  const { tls, fabric, tenants, node, policy, audit, persistence } = settings;
  const isResolver = node.mode === "resolver";
  const hasFabric = fabric.enabled !== false && !isResolver;
  const jwksFile = tenants.jwt?.jwksFile;
  return [
    ...(persistence.ephemeral ? [] : directoryFaults(persistence.dataDir)),
    ...tlsFaults("tls.", tls),
    ...(isResolver ? await upstreamFaults(settings) : []),
    ...(hasFabric ? await fabricTlsFaults(settings) : []),
    ...(hasFabric ? await tokenFaults(settings) : []),
    ...(isResolver ? [] : keyFaults(settings)),
    ...(await storeFaults(settings.store)),
    ...(await faultOf(() => readCredentials(settings, node.clusterId))),
    ...(jwksFile === undefined ? [] : await faultOf(() => checkKeys(jwksFile), "tenants.jwt.jwks_file: ")),
    ...(policy.file === undefined ? [] : await policyFaults(policy.file)),
    ...(await dnsFaults(settings.dns)),
    ...(audit.file === undefined ? [] : await faultOf(() => checkAppendable(audit.file ?? ""), "audit.file: ")),
  ];
}

async function dnsFaults(dns: Settings["dns"]): Promise<readonly string[]> {
  const { enabled, cookieSecretFile, dnssecKeyFile } = dns;
  if (!enabled) return [];
  return [
    ...(cookieSecretFile === undefined ? [] : await faultOf(() => readCookieSecrets(cookieSecretFile))),
    ...(dnssecKeyFile === undefined ? [] : await faultOf(() => readZoneKeys(dnssecKeyFile))),
    ...(await faultOf(() => readTransferKeys(dns))),
  ];
}

/** Throws if the file does not contain any keys of a token issuer. The library that reads the keys is loaded only here. */
async function checkKeys(path: string): Promise<void> {
  (await import("../../policy/identity/tokens.io.ts")).checkKeyFile(path);
}

/** An invalid policy file is a fault: a new node would deny all access, and a node with a stored policy would not follow the file. */
async function policyFaults(path: string): Promise<readonly string[]> {
  const read = await readFileText(path);
  if (read.ok) return [];
  return [`policy.file: ${path}: ${read.fault}; check it with waymark namespace policy validate, or remove the setting`];
}

/** Finds a path where a directory cannot be created. It creates nothing. */
function directoryFaults(path: string): readonly string[] {
  for (let place = resolve(path); ; place = dirname(place)) {
    const stat = statOf(place);
    if (stat?.isDirectory() === true || place === dirname(place)) return [];
    if (stat !== undefined) return [`persistence.data_dir: ${path}: ${place} is not a directory: set another directory (flag --data-dir)`];
  }
}

/** Undefined if the file is missing, or if one of its parent directories is a file. */
function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

/**
 * Throws if the file cannot be opened with the flags that the audit log uses. A missing file is not created, and an existing one is not changed. Only
 * the reader of a named pipe can notice the check.
 */
function checkAppendable(path: string): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat?.isDirectory() === true) throw new Error(`${path} is a directory: specify a file`);
  try {
    if (stat === undefined) accessSync(dirname(path), constants.W_OK | constants.X_OK);
    else {
      const descriptor = openSync(path, APPENDING);
      // The reader of a pipe would see the end of the pipe and exit before the log opens it, so a pipe stays open for as long as this process runs.
      if (!stat.isFIFO()) closeSync(descriptor);
    }
  } catch (error) {
    const why = error instanceof Error ? error.message : path;
    const rule =
      stat?.isFIFO() === true
        ? "this named pipe has no reader: start its reader first, or specify a regular file"
        : "specify a file in an existing, writable directory";
    throw new Error(`${path} cannot be written: ${why}; ${rule}`, { cause: error });
  }
}

/** Returns one fault per line of an error message. */
async function faultOf(read: () => unknown, before = ""): Promise<readonly string[]> {
  try {
    await read();
    return [];
  } catch (error) {
    const [first, ...more] = (error instanceof Error ? error.message : String(error)).split("\n");
    return [`${before}${first}`, ...more];
  }
}

async function fabricTlsFaults(settings: Settings): Promise<readonly string[]> {
  const faults = tlsFaults("fabric.", settings.fabric);
  const { id: nodeId, clusterId } = settings.node;
  return faults.length > 0 ? faults : faultOf(() => readTlsAndBorders(settings, settings.fabric.borders, { nodeId, clusterId }));
}

async function storeFaults(store: Settings["store"]): Promise<readonly string[]> {
  const { passwordFile } = store;
  const faults = tlsFaults("store.", store);
  return passwordFile === undefined ? faults : [...faults, ...(await faultOf(() => readToken(passwordFile, "store.password_file")))];
}

async function upstreamFaults(settings: Settings): Promise<readonly string[]> {
  const { tlsCertFile: certFile, tlsKeyFile: keyFile, tlsCaFile: caFile } = settings.resolver;
  const faults = tlsFaults("resolver.tls_", { certFile, keyFile, caFile });
  return faults.length > 0 ? faults : faultOf(() => readUpstreamAccess(settings));
}

/** Returns the faults in the token files of the fabric and its borders. */
async function tokenFaults(settings: Settings): Promise<readonly string[]> {
  let tokens: ClusterTokens = { clusterToken: "" };
  const faults = await faultOf(() => {
    tokens = readClusterTokens(settings);
  });
  return [...faults, ...(await faultOf(() => readBorders(settings.fabric.borders, tokens)))];
}

/** OpenSSL messages are left out, because they could contain parts of a key file. */
function tlsFaults(prefix: TlsPrefix, { certFile, keyFile, caFile, crlFile }: TlsSettings): readonly string[] {
  const faults: string[] = [];
  const readPem = (setting: string, path: string) => readNamedFile({ setting, path, maxBytes: MAX_PEM_BYTES });
  const read = <T>(setting: string, path: string | undefined, readAt: (setting: string, path: string) => T): T | undefined => {
    try {
      return path === undefined ? undefined : readAt(`${prefix}${setting}`, path);
    } catch (error) {
      faults.push(error instanceof Error ? error.message : String(error));
      return undefined;
    }
  };
  const [cert, key] = [read("cert_file", certFile, readPem), read("key_file", keyFile, readPem)];
  read("ca_file", caFile, readCertificates);
  read("crl_file", crlFile, readRevocationLists);
  const isCertFit = cert === undefined || isFit({ cert });
  const isKeyFit = key === undefined || isFit({ key });
  if (!isCertFit) faults.push(`${prefix}cert_file: ${certFile} contains no certificate in PEM format`);
  if (!isKeyFit) faults.push(`${prefix}key_file: ${keyFile} contains no unencrypted private key in PEM format`);
  if (cert && key && isCertFit && isKeyFit && !isFit({ cert, key }))
    faults.push(`${prefix}key_file: ${keyFile} does not match the certificate ${certFile}`);
  return faults;
}

function isFit(parts: { readonly cert?: Buffer; readonly key?: Buffer }): boolean {
  try {
    createSecureContext(parts);
    return true;
  } catch {
    return false;
  }
}
