/** TLS of the client: the credentials of its connections, and whether a server that was asked in plain text speaks it. */

import { isIP, type LookupFunction } from "node:net";
// The default import, because a named import of a function that an older Node lacks would fail before `connect` can explain it.
import nodeTls from "node:tls";
import { type ChannelCredentials, credentials } from "@grpc/grpc-js";
import { splitHostPort } from "../lib/addresses.ts";
import { certificatesFault } from "../lib/named-file.io.ts";
import type { TlsFiles } from "./connect-options.ts";

/** What is wrong with the certificate of a server, for connections that do not go by its host name. */
export type CheckIdentity = (host: string, certificate: nodeTls.PeerCertificate) => Error | undefined;

/** Credentials for connections of a client. `option` is what the files are called. Throws a RangeError that names the file which cannot be used. */
export function credentialsOf(tls: TlsFiles | undefined, option = "tls", checkServerIdentity?: CheckIdentity): ChannelCredentials {
  if (tls === undefined) return credentials.createInsecure();
  const wrong = findTlsFault(tls, `${option}.cert`);
  if (wrong !== undefined) throw new RangeError(`connect: ${option}.${wrong.file} ${wrong.fault}`);
  const verifying = checkServerIdentity && { checkServerIdentity };
  return withoutAddressAsName(credentials.createSsl(pem(tls.ca) ?? systemRoots(), pem(tls.key), pem(tls.cert), verifying));
}

/**
 * grpc-js sends the host of each server as the TLS server name, and has no option to turn this off. For an IP address, Node then prints the warning
 * DEP0123 in the user's program, because RFC 6066 allows only DNS names. Without a server name, the certificate is verified against the host.
 */
function withoutAddressAsName(made: ChannelCredentials): ChannelCredentials {
  // oxlint-disable-next-line no-underscore-dangle -- the name that grpc-js gave it
  const create = made._createSecureConnector.bind(made);
  // oxlint-disable-next-line no-underscore-dangle -- the name that grpc-js gave it
  made._createSecureConnector = (...given) => {
    const connector = create(...given);
    const options: unknown = Reflect.get(connector, "connectionOptions");
    if (typeof options === "object" && options !== null && isIP(String(Reflect.get(options, "servername"))) !== 0)
      Reflect.deleteProperty(options, "servername");
    return connector;
  };
  return made;
}

function pem(bytes: Uint8Array | undefined): Buffer | undefined {
  return bytes === undefined ? undefined : Buffer.from(bytes);
}

/** PEM of the authorities that the system trusts. Undefined when there are none; then Node uses its own list. */
function systemRoots(): Buffer | undefined {
  const roots = [...nodeTls.getCACertificates("system"), ...nodeTls.getCACertificates("extra")];
  return roots.length === 0 ? undefined : Buffer.from(roots.join("\n"));
}

/** A server that speaks TLS answers at once; the failure waits for this. */
const ANSWER_MS = 1000;

/** Whether a server speaks TLS; for a hint, not for a decision. `server` is `host:port`, with brackets around IPv6. */
export function speaksTls(server: string): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>();
  // Nothing is sent and nothing received is believed, so no certificate is checked.
  const socket = nodeTls.connect({ ...placeOf(server), rejectUnauthorized: false });
  socket.setTimeout(ANSWER_MS, () => resolve(false));
  socket.on("secureConnect", () => resolve(true));
  socket.on("error", () => resolve(false));
  return promise.finally(() => socket.destroy());
}

interface CertificateLook {
  readonly tls: TlsFiles;
  readonly checkServerIdentity: CheckIdentity;
  /** Where the server is. Its name is not looked up. */
  readonly addresses: readonly string[];
  readonly timeoutMs: number;
}

/**
 * What is wrong with the certificate of a server, by a connection on which the client shows none. TLS shows a client's certificate before the server's is judged, so this comes
 * before a connection with one.
 */
export function certificateFault(
  server: string,
  { tls, checkServerIdentity, addresses, timeoutMs }: CertificateLook,
): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  const ca = pem(tls.ca) ?? systemRoots();
  const lookup: LookupFunction = (_host, { all }, told) => {
    const found = addresses.map((address) => ({ address, family: isIP(address) }));
    const [first = { address: "", family: 0 }] = found;
    // oxlint-disable-next-line unicorn/no-null -- node:net wants null
    if (all === true) told(null, found);
    // oxlint-disable-next-line unicorn/no-null -- node:net wants null
    else told(null, first.address, first.family);
  };
  const socket = nodeTls.connect({ ...placeOf(server), ...(ca && { ca }), ALPNProtocols: ["h2"], checkServerIdentity, lookup });
  socket.setTimeout(timeoutMs, () => resolve("no answer by TLS"));
  socket.on("secureConnect", () => resolve(undefined));
  socket.on("error", ({ message }: Error) => resolve(message === "" ? "no connection could be made" : message));
  return promise.finally(() => socket.destroy());
}

/** Where a socket goes for `host:port`, with brackets around IPv6. */
export function placeOf(server: string): { readonly host: string; readonly port: number; readonly servername?: string } {
  const { host, port } = splitHostPort(server);
  return { host, port, ...(isIP(host) === 0 && { servername: host }) };
}

// Whether the bytes of PEM files are what they are given for, before a connection is made with them: TLS passes over authorities that it cannot read, and
// then trusts nobody.

interface TlsFault {
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
