/** Connects to another node's fabric listener. TCP, TLS, HTTP/2, and the check of the peer's identity share one deadline. */

import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type SecureContext, TLSSocket } from "node:tls";
import { ClientConnection, type ConnectionOptions } from "../../grpc/client/connection.io.ts";
import { splitHostPort } from "../../lib/addresses.ts";
import { NEVER } from "../../lib/machine.ts";
import { now, stallAwareTimeout } from "../../lib/stall-aware-time.io.ts";
import { isPlaintextAllowed } from "../links/peer-auth.ts";
import type { PeerIdentity } from "../wire/messages.ts";
import type { BorderAuthority } from "./border-gate.ts";
import { DialError, isRefusal } from "./call-failure.ts";
import { type AcceptedPeers, acceptedPeers, peerIdentityOf } from "./peer-identity.io.ts";

export interface DialTls {
  readonly context: SecureContext;
  readonly accepted: AcceptedPeers;
  /** When the certificate of this node ends. */
  readonly endsWallMs: number;
  /** Set when the peer is a node of this border. In that case, this node requests its own gate on the peer. */
  readonly border?: { readonly authority: BorderAuthority; readonly gate: string };
}

export interface FabricDialOptions {
  /** `host:port`, with an IPv6 host in brackets. */
  readonly address: string;
  /** Undefined for a plaintext connection. */
  readonly tls: DialTls | undefined;
  /** Whether plaintext connections to other machines are also allowed. */
  readonly isInsecure: boolean;
  readonly timeoutMs: number;
  readonly connection: Pick<ConnectionOptions, "limits" | "bounds" | "onLeaving">;
}

export interface DialResult {
  readonly connection: ClientConnection;
  readonly identity: PeerIdentity;
}

/** A dial in progress. */
export interface PendingDial {
  readonly done: Promise<DialResult>;
  /** Cancels the dial and rejects the promise. */
  cancel(): void;
}

/** Starts a dial. The promise rejects with a `DialError` for operators if no fabric listener is reached within the timeout. */
export function dial(options: FabricDialOptions): PendingDial {
  const { host, port } = splitHostPort(options.address);
  if (!(port > 0 && port < 65_536))
    return { done: Promise.reject(new Error(`invalid address "${options.address}": expected host:port`)), cancel: () => {} };
  const socket = options.tls === undefined ? connectTcp({ host, port }) : secured(host, port, options.tls);
  socket.setNoDelay(true);
  let cancel = () => {};
  const done = new Promise<DialResult>((resolve, reject) => {
    let isConnected = false;
    let isOver = false;
    let second: Socket | undefined;
    const fail = (why: string, isRefused = false, code = "") => {
      isOver = true;
      timer.clear();
      socket.destroy();
      second?.destroy();
      const isOwnEnded = (isConnected || isRefused) && now().wallMs > (options.tls?.endsWallMs ?? NEVER);
      reject(new DialError(`${options.address}: ${why}`, { isRefused, hasEnded: isOwnEnded || code === "CERT_HAS_EXPIRED" }));
    };
    cancel = () => fail("cancelled");
    const timer = stallAwareTimeout(() => fail(`no connection within ${options.timeoutMs} ms`), options.timeoutMs);
    socket.on("error", (error: NodeJS.ErrnoException) => fail(error.message, meansRefusal(error, socket), error.code));
    socket.once("close", () => {
      if (isOver) return;
      if (options.tls !== undefined || !isConnected) return fail("connection closed", isConnected);
      if (socket.bytesRead > 0) return fail("the server does not speak the fabric protocol", true);
      // A TLS server closes the connection of a plaintext client in this way, and so does a port forwarder without a backend.
      second = asksForTls(host, port, (isTls) =>
        fail(isTls ? "the server requires TLS, but this node has no fabric certificates" : "connection closed", isTls),
      );
    });
    socket.once(options.tls === undefined ? "connect" : "secureConnect", () => {
      isConnected = true;
      const identity = peerIdentityOf(socket, options.tls?.accepted ?? acceptedPeers(undefined), options.tls?.border?.authority);
      if ("refused" in identity) return fail(identity.refused, true);
      if (options.tls === undefined && !isPlaintextAllowed(identity, options.isInsecure))
        return fail(
          "plain connections to another machine are not allowed: configure fabric certificates, or pass --insecure if the network is trusted",
          true,
        );
      const connection = new ClientConnection(socket, { authority: "fabric", scheme: "http", ...options.connection });
      const ready = () => {
        isOver = true;
        timer.clear();
        resolve({ connection, identity });
      };
      connection.ready().then(ready, () => {}); // After a failure, the socket emits "close".
    });
  });
  return { done, cancel: () => cancel() };
}

/** Checks for a TLS server and calls `done` once, unless the socket is destroyed first. It sends only the TLS handshake. */
function asksForTls(host: string, port: number, done: (isTls: boolean) => void): Socket {
  const socket = connectTls({ host, port, ALPNProtocols: ["h2"], rejectUnauthorized: false });
  socket.once("secureConnect", () => done(true));
  socket.on("error", (error: NodeJS.ErrnoException) => done(meansRefusal(error, socket)));
  socket.once("close", () => done(false));
  return socket;
}

/** Host names are not compared, because a node is identified by its id, regardless of its address. */
function secured(host: string, port: number, { context: secureContext, border }: DialTls): TLSSocket {
  const named = border === undefined ? {} : { servername: border.gate };
  return connectTls({ host, port, secureContext, ALPNProtocols: ["h2"], checkServerIdentity: () => undefined, ...named });
}

function meansRefusal({ code = "" }: NodeJS.ErrnoException, socket: Socket): boolean {
  return isRefusal(code, socket instanceof TLSSocket && Boolean(socket.authorizationError));
}
