/**
 * Opens connections to upstream servers, with one deadline for TCP, TLS and HTTP/2 together. A token is sent only over TLS or to a loopback address.
 */
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { connect as connectTls, type SecureContext } from "node:tls";
import { ClientConnection, type ClientLimits, type ConnectionOptions } from "../../grpc/client/connection.io.ts";
import type { PendingConnection } from "../../grpc/client/pool.io.ts";
import { GRPC_PORT, hostPort, isLoopbackHost, withoutMapping } from "../../lib/addresses.ts";
import { stallAwareTimeout } from "../../lib/stall-aware-time.io.ts";
import type { UpstreamCredentials } from "./credentials.io.ts";
import { connectionFault } from "./upstream-codec.ts";

export interface UpstreamDialOptions {
  /** `host` or `host:port`, with an IPv6 host in brackets. */
  readonly address: string;
  readonly credentials: Pick<UpstreamCredentials, "tls" | "token">;
  readonly timeoutMs: number;
  readonly connection: Pick<ConnectionOptions, "limits" | "bounds" | "onLeaving" | "measuresDelay">;
}

/** Maximum size of a message. A page has at most 1 MiB plus one entry, a watch message 16 KiB or one entry, and a part of a policy 128 KiB. */
export const MAX_ANSWER_BYTES = 4_194_304;
/** Flow-control windows: the number of bytes that an upstream may send on a stream, or on the whole connection, before they are read. */
const STREAM_WINDOW_BYTES = 524_288;
const CONNECTION_WINDOW_BYTES = 1_048_576;

export const CONNECTION_LIMITS: ClientLimits = {
  maxReceiveBytes: MAX_ANSWER_BYTES,
  maxSendBytes: MAX_ANSWER_BYTES,
  maxBufferedBytes: 16 * MAX_ANSWER_BYTES,
  maxCalls: 4096,
  maxSessionMemoryMiB: 16,
  maxHeaderPairs: 64,
  maxHeaderListBytes: 16_384,
  streamWindowBytes: STREAM_WINDOW_BYTES,
  connectionWindowBytes: CONNECTION_WINDOW_BYTES,
  keepaliveTimeMs: 5000,
  keepaliveTimeoutMs: 5000,
};

/** Opens a connection. `done` rejects with a readable error if no HTTP/2 server responds in time, or if the token must not be sent to the server. */
export function dialUpstream({
  address,
  credentials: { tls, token },
  timeoutMs,
  connection: parts,
}: UpstreamDialOptions): PendingConnection {
  const place = placeOf(address);
  const scheme = tls === undefined ? "http" : "https";
  if (place === undefined || !URL.canParse(`${scheme}://${place.authority}`))
    return {
      done: Promise.reject(new Error(`invalid upstream address ${JSON.stringify(address)}: expected host or host:port`)),
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
  socket.on("error", (error: NodeJS.ErrnoException) => fail(connectionFault(wordsOf(error))));
  socket.once("close", () => fail("the connection was closed during the HTTP/2 handshake"));
  socket.once(tls === undefined ? "connect" : "secureConnect", () => {
    if (tls === undefined && token !== undefined && !isLoopbackHost(withoutMapping(socket.remoteAddress ?? "")))
      return fail("the token is sent only over TLS or to a loopback address; set resolver.tls or resolver.tls_ca_file");
    const connection = new ClientConnection(socket, { authority, scheme, ...parts });
    const greeted = () => {
      timer.clear();
      resolve(connection);
    };
    connection.ready().then(greeted, (error: Error) => fail(error.message));
  });
  return { done, cancel: () => fail("the connection attempt was canceled") };
}

interface UpstreamAddress {
  readonly host: string;
  readonly port: number;
  readonly authority: string;
}

function placeOf(address: string): UpstreamAddress | undefined {
  const match = /^(?:\[(?<v6>[0-9A-Fa-f:.%]+)\]|(?<name>[A-Za-z0-9._-]+))(?::(?<port>\d{1,5}))?$/.exec(address);
  const host = match?.groups?.["v6"] ?? match?.groups?.["name"];
  const port = Number(match?.groups?.["port"] ?? GRPC_PORT);
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
