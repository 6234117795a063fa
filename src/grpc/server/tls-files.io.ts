/** Manages the listeners' certificates: reads them from files, and reads them again when the files change or on SIGHUP. */
import { statSync } from "node:fs";
import { MAX_PEM_BYTES, readCertificates, readNamedFile, readRevocationLists } from "../../lib/named-file.io.ts";
import { type AcceptOptions, openAcceptor, type TlsAcceptor, type TlsMaterial } from "./acceptor.io.ts";

export interface ListenerTlsFiles {
  /** The group of settings that contains the file names. Default: `tls`. */
  readonly group?: "tls" | "fabric";
  readonly certFile: string;
  readonly keyFile: string;
  /** Clients must present a certificate signed by this CA (mutual TLS). */
  readonly clientCaFile?: string | undefined;
  /** With `clientCaFile`: a client certificate is optional, and identifies the client if present. */
  readonly isClientOptional?: boolean | undefined;
  /** With `clientCaFile`: the revocation lists of the CA. */
  readonly crlFile?: string | undefined;
  readonly minVersion?: TlsMaterial["minVersion"];
}

/** Reads the files. Throws an error that names the setting and the unreadable file. */
function readTls(files: ListenerTlsFiles): TlsMaterial {
  const group = files.group ?? "tls";
  const read = (setting: string, path: string) => readNamedFile({ setting: `${group}.${setting}`, path, maxBytes: MAX_PEM_BYTES });
  const cert = read("cert_file", files.certFile);
  return {
    cert,
    // If both are in one file, it is read once, so that they match while it is replaced.
    key: files.keyFile === files.certFile ? cert : read("key_file", files.keyFile),
    clientCa: files.clientCaFile === undefined ? undefined : readCertificates(`${group}.ca_file`, files.clientCaFile),
    isClientOptional: files.isClientOptional,
    crls: files.crlFile === undefined ? undefined : readRevocationLists(`${group}.crl_file`, files.crlFile),
    minVersion: files.minVersion,
  };
}

/** Options for a listener with certificates in files, in addition to the acceptor's options. */
export interface FileAcceptOptions extends Omit<AcceptOptions, "tls"> {
  readonly tls: ListenerTlsFiles | undefined;
  readonly onReload: () => void;
  readonly onReloadFailed: (error: unknown) => void;
}

export interface FileAcceptor extends TlsAcceptor {
  /** Reads the certificates again. Does nothing without TLS. */
  reloadTls(): void;
}

/** Like `openAcceptor`, but reads the certificates again when their files change, until the acceptor is closed. */
export async function openFileAcceptor({ tls, onReload, onReloadFailed, ...options }: FileAcceptOptions): Promise<FileAcceptor> {
  const acceptor = await openAcceptor({ ...options, tls: tls && readTls(tls) });
  const watch = tls && watchTls(tls, (material) => acceptor.setTls(material), { onReload, onError: onReloadFailed });
  const close = () => {
    watch?.stop();
    acceptor.close();
  };
  return { ...acceptor, close, reloadTls: () => watch?.reload() };
}

export interface TlsWatch {
  /** Reads the files now, even if they have not changed. */
  reload(): void;
  stop(): void;
}

/**
 * Interval between checks of the files' modification times, in ms. A check costs a stat call per file. inotify is not used, because it misses renames on
 * network mounts.
 */
const POLL_MS = 10_000;

/**
 * Passes the new material to `apply` when a file's mtime or inode changes. If the new files cannot be read or do not match each other (an
 * unfinished renewal), `onError` is called and the listener keeps its certificates.
 */
export function watchTls(
  files: ListenerTlsFiles,
  apply: (material: TlsMaterial) => void,
  events: { readonly onReload: () => void; readonly onError: (error: unknown) => void; readonly pollMs?: number },
): TlsWatch {
  const paths = [files.certFile, files.keyFile, files.clientCaFile, files.crlFile].filter((path) => path !== undefined);
  const stamp = () => paths.map((path) => `${statSync(path).mtimeMs}/${statSync(path).ino}`).join(" ");
  let seen = stamp();
  const reload = () => {
    try {
      apply(readTls(files));
      events.onReload();
    } catch (error) {
      events.onError(error);
    }
  };
  const poll = () => {
    try {
      const now = stamp();
      if (now === seen) return;
      seen = now;
    } catch (error) {
      events.onError(error);
      return;
    }
    reload();
  };
  const timer = setInterval(poll, events.pollMs ?? POLL_MS).unref();
  return { reload, stop: () => clearInterval(timer) };
}
