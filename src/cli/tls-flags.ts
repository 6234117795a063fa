/** Checks the certificates and keys that flags name before a server is asked, so that the message can name the flag. */
import { X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import { UsageError } from "./exit.ts";

interface NamedFile {
  /** The flag or variable that names it. */
  readonly source: string;
  readonly file: string;
  readonly bytes: Uint8Array;
}

export interface TlsFlags {
  readonly ca: NamedFile | undefined;
  readonly cert: NamedFile | undefined;
  readonly key: NamedFile | undefined;
}

/** Throws a UsageError that names the flag or variable and the file, and never its contents. */
export function checkTlsFlags({ ca, cert, key }: TlsFlags): void {
  for (const named of [ca, cert])
    if (named !== undefined && !isRight(() => new X509Certificate(named.bytes)))
      throw new UsageError(`${named.source} ${named.file}: holds no certificate in PEM`);
  if (cert === undefined || key === undefined) return;
  const keyPem = Buffer.from(key.bytes);
  if (!isRight(() => createSecureContext({ key: keyPem })))
    throw new UsageError(`${key.source} ${key.file}: holds no private key in PEM that is not encrypted`);
  if (!isRight(() => createSecureContext({ cert: Buffer.from(cert.bytes), key: keyPem })))
    throw new UsageError(`${key.source} ${key.file}: is not the key of ${cert.source} ${cert.file}`);
}

function isRight(read: () => unknown): boolean {
  try {
    read();
    return true;
  } catch {
    return false;
  }
}
