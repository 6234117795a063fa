/** What a resolver shows its upstream servers, as connections and calls use it. Its files may change while it runs. */
import { createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { isDeepStrictEqual } from "node:util";
import type { UpstreamAccess, UpstreamTls } from "./access.io.ts";

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
