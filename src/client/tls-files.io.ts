/** Whether the bytes of PEM files are what they are given for, before a connection is made with them: TLS passes over authorities that it cannot read, and then trusts nobody. */
// The default import, because a named import of a function that an older Node lacks would fail before `connect` can explain it.
import nodeTls from "node:tls";
import { certificatesFault } from "../lib/named-file.io.ts";
import type { TlsFiles } from "./connect-options.ts";

export interface TlsFault {
  readonly file: "ca" | "cert" | "key";
  /** What is wrong with it, in words that follow its name. Never its content. */
  readonly fault: string;
}

/** The first file that cannot be used. `certName` is the name of the certificate, for a key that is another's. */
export function findTlsFault({ ca, cert, key }: TlsFiles, certName: string): TlsFault | undefined {
  for (const [file, bytes] of [["ca", ca] as const, ["cert", cert] as const]) {
    const fault = bytes && certificatesFault(Buffer.from(bytes));
    if (fault !== undefined) return { file, fault };
  }
  if (cert === undefined || key === undefined) return undefined;
  const pair = { cert: Buffer.from(cert), key: Buffer.from(key) };
  if (!isFit({ key: pair.key })) return { file: "key", fault: "holds no private key in PEM that is not encrypted" };
  return isFit(pair) ? undefined : { file: "key", fault: `is not the key of ${certName}` };
}

/** The messages of OpenSSL are not passed on, because they could hold content of a key file. */
function isFit(pair: { readonly cert?: Buffer; readonly key: Buffer }): boolean {
  try {
    nodeTls.createSecureContext(pair);
    return true;
  } catch {
    return false;
  }
}
