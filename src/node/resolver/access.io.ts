/** How a resolver shows its upstreams who it is, and how it knows them: its token and its files of certificates. */
import { hasUpstreamTls } from "../../config/exposure.ts";
import type { Settings } from "../../config/settings.ts";
import { MAX_PEM_BYTES, readCertificates, readNamedFile, readToken } from "../../lib/named-file.io.ts";

/** The files are PEM. */
export interface UpstreamTls {
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
