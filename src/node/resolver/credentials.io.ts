/**
 * The credentials of a resolver for its upstream servers, in the form that connections and calls need. The files may change while the resolver is
 * running.
 */
import type { SecureContext } from "node:tls";
import { isDeepStrictEqual } from "node:util";
import { hasUpstreamTls } from "../../config/exposure.ts";
import type { Settings } from "../../config/settings.ts";
import { type DialCredentials, dialContext } from "../../grpc/client/dial.io.ts";
import { MAX_PEM_BYTES, readCertificates, readNamedFile, readToken } from "../../lib/named-file.io.ts";

export class UpstreamCredentials {
  readonly #read: () => UpstreamAccess;
  #known: UpstreamAccess | undefined;
  /** TLS context for new connections. Undefined for plaintext. */
  tls: SecureContext | undefined;
  /** Token for new calls. */
  token: string | undefined;

  /** `read` reads the files, and throws an error that names the setting and the file. The constructor throws the same error. */
  constructor(read: () => UpstreamAccess) {
    this.#read = read;
    this.reload();
  }

  /** Reads all files again. Returns whether the credentials changed. If a file is unusable, throws and keeps the previous credentials. */
  reload(): boolean {
    const access = this.#read();
    this.tls = access.tls && dialContext(access.tls);
    const isChanged = !isDeepStrictEqual({ ...this.#known, token: this.token }, access);
    this.#known = access;
    this.token = access.token;
    return isChanged;
  }

  /** Reads the token again. If it cannot be read, keeps the previous token and returns the reason. */
  rereadToken(): string | undefined {
    if (this.token === undefined) return undefined;
    try {
      this.token = this.#read().token;
      return undefined;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }
}

// Reads the token and certificate files with which a resolver authenticates itself and verifies its upstreams.

export interface UpstreamAccess {
  readonly token: string | undefined;
  /** Undefined for plaintext. */
  readonly tls: DialCredentials | undefined;
}

/** Reads the files that the settings name. Error messages name the setting and the file, but never the content. */
export function readUpstreamAccess(settings: Settings): UpstreamAccess {
  const { tokenFile, tlsCaFile, tlsCertFile, tlsKeyFile } = settings.resolver;
  const read = (name: "cert" | "key", path: string | undefined): DialCredentials =>
    path === undefined ? {} : { [name]: readNamedFile({ setting: `resolver.tls_${name}_file`, path, maxBytes: MAX_PEM_BYTES }) };
  const ca = (path: string | undefined): DialCredentials =>
    path === undefined ? {} : { ca: readCertificates("resolver.tls_ca_file", path) };
  return {
    token: tokenFile === undefined ? undefined : readToken(tokenFile, "resolver.token_file"),
    tls: hasUpstreamTls(settings) ? { ...ca(tlsCaFile), ...read("cert", tlsCertFile), ...read("key", tlsKeyFile) } : undefined,
  };
}
