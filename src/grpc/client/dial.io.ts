/** Opens connections to servers, with one deadline for TCP, TLS and HTTP/2 together. Secrets are sent only over TLS or to a loopback address. */
import { lookup as lookUp } from "node:dns/promises";
import { connect as connectTcp, isIP, type LookupFunction, type Socket } from "node:net";
// This is a default import, because a named import of a function that is missing in older Node.js versions would fail before the client library can
// report the version.
import nodeTls, { type SecureContext, type ConnectionOptions as TlsOptions } from "node:tls";
import { hostPort, isLoopbackHost, withoutMapping } from "../../lib/addresses.ts";
import { stallAwareTimeout } from "../../lib/stall-aware-time.io.ts";
import { ClientConnection, CONNECTION_LOST, type ConnectionOptions } from "./connection.io.ts";
import { type DialRemedies, dialFault } from "./dial-fault.ts";
import type { PendingConnection } from "./pool.io.ts";

export interface ServerDialOptions {
  /** `host` or `host:port`, with an IPv6 host in brackets. */
  readonly address: string;
  readonly defaultPort: number;
  /** Undefined for plaintext. */
  readonly tls: SecureContext | undefined;
  /** How the server's name is looked up, and how its certificate is checked. By default, Node.js does both. */
  readonly checks?: Pick<TlsOptions, "checkServerIdentity" | "lookup">;
  /** Fails plaintext connections to other machines, with this text. Set if the calls contain a secret. */
  readonly plaintextFault?: string | undefined;
  /** If absent, failures of the TLS handshake are described by OpenSSL and Node.js. */
  readonly remedies?: DialRemedies;
  readonly timeoutMs: number;
  readonly connection: Pick<ConnectionOptions, "limits" | "bounds" | "onLeaving" | "measuresDelay">;
}

/** Opens a connection. `done` rejects with a readable error if no HTTP/2 server responds in time, or if secrets must not be sent to the server. */
export function dialServer(options: ServerDialOptions): PendingConnection {
  const { address, tls, checks, timeoutMs, plaintextFault, remedies } = options;
  const place = placeOf(options);
  const scheme = tls === undefined ? "http" : "https";
  if (place === undefined || !URL.canParse(`${scheme}://${place.authority}`))
    return {
      done: Promise.reject(new Error(`invalid address ${JSON.stringify(address)}: expected host or host:port`)),
      cancel: () => {},
    };
  const { host, port, authority } = place;
  const socket = tls === undefined ? connectTcp({ host, port, ...checks }) : secured(host, port, tls, checks);
  socket.setNoDelay(true);
  const { promise: done, resolve, reject } = Promise.withResolvers<ClientConnection>();
  const fail = (why: string) => {
    timer.clear();
    socket.destroy();
    reject(new Error(why));
  };
  const timer = stallAwareTimeout(() => fail(`no connection to ${authority} within ${timeoutMs} ms`), timeoutMs);
  socket.on("error", (error: NodeJS.ErrnoException) => fail(dialFault(wordsOf(error), remedies)));
  const hint = tls === undefined ? "; the server may require TLS" : "";
  const closed = () => fail(`the connection was closed during the HTTP/2 handshake${hint}`);
  socket.once("close", closed);
  socket.once(tls === undefined ? "connect" : "secureConnect", () => {
    if (tls === undefined && plaintextFault !== undefined && !isLoopbackHost(withoutMapping(socket.remoteAddress ?? "")))
      return fail(plaintextFault);
    socket.off("close", closed); // From now on, the connection reports it, and first reports an answer in another protocol.
    const connection = new ClientConnection(socket, { authority, scheme, ...options.connection });
    const greeted = () => {
      timer.clear();
      resolve(connection);
    };
    const lost = ({ message }: Error) => (message === CONNECTION_LOST ? closed() : fail(dialFault(`${message}${hint}`, remedies)));
    connection.ready().then(greeted, lost);
  });
  return { done, cancel: () => fail("the connection attempt was canceled") };
}

/** Time before the next address of a server is also dialed (RFC 8305, section 5). */
const NEXT_ADDRESS_MS = 250;

/**
 * Like `dialServer`, but dials the addresses of the server one after another until one responds, without ending slow attempts. Node.js alone would
 * wait for the first address that accepts TCP, even if that server is blocked. By default, the addresses are looked up.
 */
export function dialAddresses(options: ServerDialOptions, addresses?: readonly string[]): PendingConnection {
  const { host = "" } = placeOf(options) ?? {};
  if (addresses === undefined && (host === "" || isIP(host) !== 0)) return dialServer(options);
  const { promise: done, resolve, reject } = Promise.withResolvers<ClientConnection>();
  const attempts = new Set<PendingConnection>();
  const waiting: string[] = [];
  let isOver = false;
  let timer: NodeJS.Timeout | undefined;
  const cancel = (): void => {
    isOver = true;
    clearTimeout(timer);
    for (const attempt of attempts) attempt.cancel();
  };
  const dialNext = (failure: Error): void => {
    clearTimeout(timer);
    const address = isOver ? undefined : waiting.shift();
    if (address === undefined) return attempts.size === 0 ? reject(failure) : undefined;
    const attempt = dialServer({ ...options, checks: { ...options.checks, lookup: lookupOf([address]) } });
    attempts.add(attempt);
    const ended = attempt.done.finally(() => attempts.delete(attempt));
    const opened = (connection: ClientConnection): void => {
      // Two attempts can succeed in the same turn of the event loop.
      if (isOver) return connection.destroy();
      resolve(connection);
      cancel();
    };
    ended.then(opened, dialNext);
    timer = setTimeout(dialNext, NEXT_ADDRESS_MS, failure);
  };
  const begin = (found: readonly { readonly address: string }[]): void => {
    waiting.push(...found.map(({ address }) => address));
    dialNext(new Error("the connection attempt was canceled"));
  };
  Promise.resolve(addresses?.map((address) => ({ address })) ?? lookUp(host, { all: true })).then(begin, reject);
  return { done, cancel };
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
function secured(host: string, port: number, secureContext: SecureContext, checks: ServerDialOptions["checks"]): Socket {
  const name = isIP(host) === 0 ? { servername: host } : {};
  return nodeTls.connect({ host, port, secureContext, ...name, ALPNProtocols: ["h2"], ...checks });
}

/** Returns a lookup that finds these addresses for each name. */
export function lookupOf(addresses: readonly string[]): LookupFunction {
  const found = addresses.map((address) => ({ address, family: isIP(address) }));
  const [first = { address: "", family: 0 }] = found;
  // If an address is unreachable, Node.js closes the socket in the callback. TLS options that are set after that throw errors.
  // oxlint-disable-next-line unicorn/no-null -- node:net wants null
  return (_host, { all }, callback) => process.nextTick(callback, null, ...(all === true ? [found] : [first.address, first.family]));
}

/** Returns the system's error message. If several addresses failed, the error has an empty message, so its code is used. */
function wordsOf(error: NodeJS.ErrnoException): string {
  return error.message === "" ? (error.code ?? "no connection") : error.message.trim();
}

/** The content of PEM files for TLS. */
export interface DialCredentials {
  /** The trusted CAs. If absent, the system's CAs are used. */
  readonly ca?: Buffer | undefined;
  readonly cert?: Buffer | undefined;
  readonly key?: Buffer | undefined;
}

/** Throws an error of OpenSSL if the key does not belong to the certificate, or if one of them cannot be read. */
export function dialContext({ ca, ...own }: DialCredentials): SecureContext {
  return nodeTls.createSecureContext({ ca: ca ?? systemRoots(), minVersion: "TLSv1.2", ...own });
}

/** The CAs that the system trusts. Undefined if there are none. Node.js then uses its own list. */
export function systemRoots(): string[] | undefined {
  const roots = [...nodeTls.getCACertificates("system"), ...nodeTls.getCACertificates("extra")];
  return roots.length === 0 ? undefined : roots;
}
