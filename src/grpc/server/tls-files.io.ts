/** Certificates of the listeners: read from files, read again when they change or when told to (SIGHUP). */
import { statSync } from "node:fs";
import { MAX_PEM_BYTES, readCertificates, readNamedFile } from "../../lib/named-file.io.ts";
import { type AcceptOptions, openAcceptor, type TlsAcceptor, type TlsMaterial } from "./acceptor.io.ts";

export interface ListenerTlsFiles {
  /** The group of settings that names them; absent: `tls`. */
  readonly group?: "tls" | "fabric";
  readonly certFile: string;
  readonly keyFile: string;
  /** With it clients must show a certificate it signed (mutual TLS). */
  readonly clientCaFile?: string | undefined;
  /** With `clientCaFile`: they may, and are known by it if they do. */
  readonly isClientOptional?: boolean | undefined;
}

/** Reads the files; throws an error that names the setting and the file that cannot be read. */
function readTls(files: ListenerTlsFiles): TlsMaterial {
  const group = files.group ?? "tls";
  const read = (setting: string, path: string) => readNamedFile({ setting: `${group}.${setting}`, path, maxBytes: MAX_PEM_BYTES });
  return {
    cert: read("cert_file", files.certFile),
    key: read("key_file", files.keyFile),
    clientCa: files.clientCaFile === undefined ? undefined : readCertificates(`${group}.ca_file`, files.clientCaFile),
    isClientOptional: files.isClientOptional,
  };
}

/** What a listener with certificates in files takes beside what its acceptor does. */
export interface FileAcceptOptions extends Omit<AcceptOptions, "tls"> {
  readonly tls: ListenerTlsFiles | undefined;
  readonly onReload: () => void;
  readonly onReloadFailed: (error: unknown) => void;
}

export interface FileAcceptor extends TlsAcceptor {
  /** Reads the certificates again; without TLS nothing happens. */
  reloadTls(): void;
}

/** As `openAcceptor`, with certificates that are read again when their files change, until it is closed. */
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
  /** Reads now whether changed or not. */
  reload(): void;
  stop(): void;
}

/** How often the files' times are looked at, in ms. Three stat calls; inotify misses renames on network mounts. */
const POLL_MS = 10_000;

/**
 * Gives `apply` the material again when a file's mtime changes. When the new files cannot be read or do not fit each
 * other (a half-done renewal), `onError` hears of it and the listener keeps what it has.
 */
export function watchTls(
  files: ListenerTlsFiles,
  apply: (material: TlsMaterial) => void,
  events: { readonly onReload: () => void; readonly onError: (error: unknown) => void; readonly pollMs?: number },
): TlsWatch {
  const paths = [files.certFile, files.keyFile, ...(files.clientCaFile === undefined ? [] : [files.clientCaFile])];
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
