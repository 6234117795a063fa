/** Opens connections to servers, with one deadline for TCP, TLS and HTTP/2 together. Secrets are sent only over TLS or to a loopback address. */
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls, createSecureContext, getCACertificates, type SecureContext } from "node:tls";
import { hostPort, isLoopbackHost, withoutMapping } from "../../lib/addresses.ts";
import { stallAwareTimeout } from "../../lib/stall-aware-time.io.ts";
import { ClientConnection, type ConnectionOptions } from "./connection.io.ts";
import { type DialRemedies, dialFault } from "./dial-fault.ts";
import type { PendingConnection } from "./pool.io.ts";

export interface ServerDialOptions {
  /** `host` or `host:port`, with an IPv6 host in brackets. */
  readonly address: string;
  readonly defaultPort: number;
  /** Undefined for plaintext. */
  readonly tls: SecureContext | undefined;
  /** Fails plaintext connections to other machines, with this text. Set if the calls contain a secret. */
  readonly plaintextFault?: string | undefined;
  readonly remedies: DialRemedies;
  readonly timeoutMs: number;
  readonly connection: Pick<ConnectionOptions, "limits" | "bounds" | "onLeaving" | "measuresDelay">;
}

/** Opens a connection. `done` rejects with a readable error if no HTTP/2 server responds in time, or if secrets must not be sent to the server. */
export function dialServer(options: ServerDialOptions): PendingConnection {
  const { address, tls, timeoutMs, plaintextFault } = options;
  const place = placeOf(options);
  const scheme = tls === undefined ? "http" : "https";
  if (place === undefined || !URL.canParse(`${scheme}://${place.authority}`))
    return {
      done: Promise.reject(new Error(`invalid address ${JSON.stringify(address)}: expected host or host:port`)),
      cancel: () => {},
    };
  const { host, port, authority } = place;
  const socket = tls === undefined ? connectTcp({ host, port }) : secured(host, port, tls);
  socket.setNoDelay(true);
  const { promise: done, resolve, reject } = Promise.withResolvers<ClientConnection>();
  const fail = (why: string) => {
    timer.clear();
    socket.destroy();
    reject(new Error(why));
  };
  const timer = stallAwareTimeout(() => fail(`no connection to ${authority} within ${timeoutMs} ms`), timeoutMs);
  socket.on("error", (error: NodeJS.ErrnoException) => fail(dialFault(wordsOf(error), options.remedies)));
  const closed = `the connection was closed during the HTTP/2 handshake${tls === undefined ? "; the server may require TLS" : ""}`;
  socket.once("close", () => fail(closed));
  socket.once(tls === undefined ? "connect" : "secureConnect", () => {
    if (tls === undefined && plaintextFault !== undefined && !isLoopbackHost(withoutMapping(socket.remoteAddress ?? "")))
      return fail(plaintextFault);
    const connection = new ClientConnection(socket, { authority, scheme, ...options.connection });
    const greeted = () => {
      timer.clear();
      resolve(connection);
    };
    connection.ready().then(greeted, (error: Error) => fail(dialFault(error.message, options.remedies)));
  });
  return { done, cancel: () => fail("the connection attempt was canceled") };
}

interface ServerAddress {
  readonly host: string;
  readonly port: number;
  readonly authority: string;
}

function placeOf({ address, defaultPort }: ServerDialOptions): ServerAddress | undefined {
  const match = /^(?:\[(?<v6>[0-9A-Fa-f:.%]+)\]|(?<name>[A-Za-z0-9._-]+))(?::(?<port>\d{1,5}))?$/.exec(address);
  const host = match?.groups?.["v6"] ?? match?.groups?.["name"];
  const port = Number(match?.groups?.["port"] ?? defaultPort);
  return host === undefined || port < 1 || port > 65_535 ? undefined : { host, port, authority: hostPort(host, port) };
}

/** Opens a TLS connection. IP addresses are not sent as the server name (RFC 6066, section 3). */
function secured(host: string, port: number, secureContext: SecureContext): Socket {
  const name = isIP(host) === 0 ? { servername: host } : {};
  return connectTls({ host, port, secureContext, ...name, ALPNProtocols: ["h2"] });
}

/** Returns the system's error message. If several addresses failed, the error has an empty message, so its code is used. */
function wordsOf(error: NodeJS.ErrnoException): string {
  return error.message === "" ? (error.code ?? "no connection") : error.message.trim();
}

/** The content of PEM files for TLS. */
export interface DialCredentials {
  /** The trusted CAs. If absent, the system's CAs are used. */
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

/** Throws an error of OpenSSL if the key does not belong to the certificate, or if one of them cannot be read. */
export function dialContext({ ca, ...own }: DialCredentials): SecureContext {
  return createSecureContext({ ca: ca ?? systemRoots(), minVersion: "TLSv1.2", ...own });
}

/** The CAs that the system trusts. Undefined if there are none. Node.js then uses its own list. */
function systemRoots(): string[] | undefined {
  const roots = [...getCACertificates("system"), ...getCACertificates("extra")];
  return roots.length === 0 ? undefined : roots;
}
