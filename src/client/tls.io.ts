/** Provides the client's TLS functions: connection credentials, certificate checks, and detection of servers that require TLS. */

import { isIP, type LookupFunction, type Socket } from "node:net";
// This is a default import, because a named import of a function that is missing in older Node.js versions would fail before `connect` can report the
// version.
import nodeTls from "node:tls";
import { type ChannelCredentials, credentials } from "@grpc/grpc-js";
import { splitHostPort } from "../lib/addresses.ts";
import { certificatesFault } from "../lib/named-file.io.ts";
import type { TlsFiles } from "./connect-options.ts";

/** Returns an error for a server certificate that is not accepted. Used where the certificate is not checked against the host name. */
export type CheckIdentity = (host: string, certificate: nodeTls.PeerCertificate) => Error | undefined;

/**
 * Returns the credentials for a client's connections. `option` names the TLS option in errors. Throws a RangeError that names the file if a file is
 * unusable.
 */
export function credentialsOf(tls: TlsFiles | undefined, option = "tls", checkServerIdentity?: CheckIdentity): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  const wrong = findTlsFault(tls, `${option}.cert`);
  if (wrong !== undefined) throw new RangeError(`connect: ${option}.${wrong.file} ${wrong.fault}`);
  const verifying = checkServerIdentity && { checkServerIdentity };
  return withOwnConnector(credentials.createSsl(pem(tls.ca) ?? systemRoots(), pem(tls.key), pem(tls.cert), verifying));
}

/**
 * Changes the TLS connections of grpc-js in two ways, for which it has no options:
 *
 * - It sends the host of each server as the TLS server name. For an IP address, Node.js then prints the warning DEP0123 in the user's program, because
 *   RFC 6066 allows only DNS names. Without a server name, the certificate is verified against the host.
 * - It waits for the TLS handshake without a time limit, even after the channel has been closed. A server that accepts connections and never answers
 *   would keep the user's program from exiting.
 */
function withOwnConnector(made: ChannelCredentials): ChannelCredentials {
  // oxlint-disable-next-line no-underscore-dangle -- the name that grpc-js gave it
  const create = made._createSecureConnector.bind(made);
  // oxlint-disable-next-line no-underscore-dangle -- the name that grpc-js gave it
  made._createSecureConnector = (...given) => {
    const connector = create(...given);
    const options: unknown = Reflect.get(connector, "connectionOptions");
    if (typeof options === "object" && options !== null && isIP(String(Reflect.get(options, "servername"))) !== 0)
      Reflect.deleteProperty(options, "servername");
    const opening = new Set<Socket>();
    return {
      connect: (socket) => {
        // The calls that wait for the connection keep the process running.
        socket.unref();
        opening.add(socket);
        return connector.connect(socket).finally(() => opening.delete(socket));
      },
      waitForReady: () => connector.waitForReady(),
      getCallCredentials: () => connector.getCallCredentials(),
      destroy: () => {
        for (const socket of opening) socket.destroy();
        connector.destroy();
      },
    };
  };
  return made;
}

function pem(bytes: Uint8Array | undefined): Buffer | undefined {
  return bytes === undefined ? undefined : Buffer.from(bytes);
}

/** PEM of the CAs that the system trusts. Undefined if there are none. In that case, Node.js uses its own list. */
function systemRoots(): Buffer | undefined {
  const roots = [...nodeTls.getCACertificates("system"), ...nodeTls.getCACertificates("extra")];
  return roots.length === 0 ? undefined : Buffer.from(roots.join("\n"));
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
  const lookup: LookupFunction = (_host, { all }, callback) => {
    const found = addresses.map((address) => ({ address, family: isIP(address) }));
    const [first = { address: "", family: 0 }] = found;
    // oxlint-disable-next-line unicorn/no-null -- node:net wants null
    if (all === true) callback(null, found);
    // oxlint-disable-next-line unicorn/no-null -- node:net wants null
    else callback(null, first.address, first.family);
  };
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
