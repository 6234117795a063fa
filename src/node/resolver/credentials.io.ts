/** What a resolver shows its upstream servers, as connections and calls use it. Its files may change while it runs. */
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { isDeepStrictEqual } from "node:util";
import { hasUpstreamTls } from "../../config/exposure.ts";
import type { Settings } from "../../config/settings.ts";
import { MAX_PEM_BYTES, readCertificates, readNamedFile, readToken } from "../../lib/named-file.io.ts";

export class UpstreamCredentials {
  readonly #read: () => UpstreamAccess;
  #known: UpstreamAccess | undefined;
  /** For connections from now on. Undefined: they are plain. */
  tls: SecureContext | undefined;
  /** For calls from now on. */
  token: string | undefined;

  /** `read` reads the files. It throws an error that names the setting and the file, and so does this. */
  constructor(read: () => UpstreamAccess) {
    this.#read = read;
    this.reload();
  }

  /** Reads all files again. Returns whether they say something else. Throws when one cannot be used, and then keeps what was read before. */
  reload(): boolean {
    const access = this.#read();
    this.tls = access.tls && contextOf(access.tls);
    const isChanged = !isDeepStrictEqual({ ...this.#known, token: this.token }, access);
    this.#known = access;
    this.token = access.token;
    return isChanged;
  }

  /** Reads the token again. Returns why it cannot be read; then the one before stays. */
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

function contextOf({ ca, ...own }: UpstreamTls): SecureContext {
  return createSecureContext({ ca: ca ?? systemRoots(), minVersion: "TLSv1.2", ...own });
}

/** The authorities that the system trusts. Undefined when there are none: then Node uses its own list. */
function systemRoots(): string[] | undefined {
  const roots = [...getCACertificates("system"), ...getCACertificates("extra")];
  return roots.length === 0 ? undefined : roots;
}

// How a resolver shows its upstreams who it is, and how it knows them: its token and its files of certificates.

/** The files are PEM. */
interface UpstreamTls {
  /** The authorities to trust; when absent those of the system. */
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

export interface UpstreamAccess {
  readonly token: string | undefined;
  /** Undefined for plain text. */
  readonly tls: UpstreamTls | undefined;
}

/** Reads the files that the settings name. The message of an error names the setting and the file and never its content. */
export function readUpstreamAccess(settings: Settings): UpstreamAccess {
  const { tokenFile, tlsCaFile, tlsCertFile, tlsKeyFile } = settings.resolver;
  const read = (name: "cert" | "key", path: string | undefined): UpstreamTls =>
    path === undefined ? {} : { [name]: readNamedFile({ setting: `resolver.tls_${name}_file`, path, maxBytes: MAX_PEM_BYTES }) };
  const ca = (path: string | undefined): UpstreamTls => (path === undefined ? {} : { ca: readCertificates("resolver.tls_ca_file", path) });
  return {
    token: tokenFile === undefined ? undefined : readToken(tokenFile, "resolver.token_file"),
    tls: hasUpstreamTls(settings) ? { ...ca(tlsCaFile), ...read("cert", tlsCertFile), ...read("key", tlsKeyFile) } : undefined,
  };
}
