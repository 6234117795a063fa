/** Provides the client's TLS functions: connection credentials, certificate checks, and detection of servers that require TLS. */

import { isIP } from "node:net";
// This is a default import, because a named import of a function that is missing in older Node.js versions would fail before `connect` can report the
// version.
import nodeTls from "node:tls";
import { dialContext, lookupOf, type ServerDialOptions, systemRoots } from "../grpc/client/dial.io.ts";
import { splitHostPort } from "../lib/addresses.ts";
import { certificatesFault } from "../lib/named-file.io.ts";
import type { TlsFiles } from "./connect-options.ts";

/** Returns an error for a server certificate that is not accepted. Used where the certificate is not checked against the host name. */
export type CheckIdentity = (host: string, certificate: nodeTls.PeerCertificate) => Error | undefined;

/** The TLS context of a client's connections, which is undefined for plaintext, and how certificates are checked. */
export type ChannelCredentials = Pick<ServerDialOptions, "tls" | "checks">;

/**
 * Returns the credentials for a client's connections. `option` names the TLS option in errors. Throws a RangeError that names the file if a file is
 * unusable.
 */
export function credentialsOf(tls: TlsFiles | undefined, option = "tls", checkServerIdentity?: CheckIdentity): ChannelCredentials {
  if (tls === undefined) return { tls: undefined };
  const wrong = findTlsFault(tls, `${option}.cert`);
  if (wrong !== undefined) throw new RangeError(`connect: ${option}.${wrong.file} ${wrong.fault}`);
  const context = dialContext({ ca: pem(tls.ca), cert: pem(tls.cert), key: pem(tls.key) });
  return { tls: context, ...(checkServerIdentity && { checks: { checkServerIdentity } }) };
}

function pem(bytes: Uint8Array | undefined): Buffer | undefined {
  return bytes === undefined ? undefined : Buffer.from(bytes);
}

/** A TLS server answers immediately, and a failed call is delayed by at most this time. */
const ANSWER_MS = 1000;

/** Whether a server uses TLS. Used for a hint in an error, not for decisions. `server` is `host:port`, with brackets around IPv6. */
export function speaksTls(server: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  // The certificate is not checked, because no data is sent and received data is not trusted.
  const socket = nodeTls.connect({ ...placeOf(server), rejectUnauthorized: false });
  socket.setTimeout(ANSWER_MS, () => resolve(false));
  socket.on("secureConnect", () => resolve(true));
  socket.on("error", () => resolve(false));
  return promise.finally(() => socket.destroy());
}

interface CertificateLook {
  readonly tls: TlsFiles;
  readonly checkServerIdentity: CheckIdentity;
  /** The addresses to which to connect. The server's name is not looked up. */
  readonly addresses: readonly string[];
  readonly timeoutMs: number;
}

/**
 * Returns the fault in a server's certificate. The check uses a connection without a client certificate, because TLS sends the client certificate
 * before the server certificate has been verified.
 */
export function certificateFault(
  server: string,
  { tls, checkServerIdentity, addresses, timeoutMs }: CertificateLook,
): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const ca = pem(tls.ca) ?? systemRoots();
  const lookup = lookupOf(addresses);
  const socket = nodeTls.connect({ ...placeOf(server), ...(ca && { ca }), ALPNProtocols: ["h2"], checkServerIdentity, lookup });
  socket.setTimeout(timeoutMs, () => resolve("the TLS handshake timed out"));
  socket.on("secureConnect", () => resolve(undefined));
  socket.on("error", ({ message }: Error) => resolve(message === "" ? "no connection could be made" : message));
  return promise.finally(() => socket.destroy());
}

/** Returns the socket address of `host:port`, with brackets around IPv6. */
export function placeOf(server: string): { readonly host: string; readonly port: number; readonly servername?: string } {
  const { host, port } = splitHostPort(server);
  return { host, port, ...(isIP(host) === 0 && { servername: host }) };
}

// Checks the contents of PEM files before a connection uses them, because TLS ignores CA files that it cannot parse and then does not trust any CA.

interface TlsFault {
  readonly file: "ca" | "cert" | "key";
  /** The fault, worded so that it can follow the file name. Never contains the file's content. */
  readonly fault: string;
}

/** Returns the first unusable file. `certName` names the certificate in the error for a key that does not match it. */
export function findTlsFault({ ca, cert, key }: TlsFiles, certName: string): TlsFault | undefined {
  for (const [file, bytes] of [["ca", ca] as const, ["cert", cert] as const]) {
    const fault = bytes && certificatesFault(Buffer.from(bytes));
    if (fault !== undefined) return { file, fault };
  }
  if (cert === undefined || key === undefined) return undefined;
  const pair = { cert: Buffer.from(cert), key: Buffer.from(key) };
  if (!isFit({ key: pair.key })) return { file: "key", fault: "does not contain an unencrypted private key in PEM format" };
  return isFit(pair) ? undefined : { file: "key", fault: `does not match ${certName}` };
}

/** OpenSSL's messages are not shown, because they could contain parts of a key file. */
function isFit(pair: { readonly cert?: Buffer; readonly key: Buffer }): boolean {
  try {
    nodeTls.createSecureContext(pair);
    return true;
  } catch {
    return false;
  }
}
