/** A connection to another node's fabric listener: TCP, TLS, HTTP/2, and who is there, all within one deadline. */

import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type SecureContext, TLSSocket } from "node:tls";
import { ClientConnection, type ConnectionOptions } from "../../grpc/client/connection.io.ts";
import { splitHostPort } from "../../lib/addresses.ts";
import { stallAwareTimeout } from "../../lib/stall-aware-time.io.ts";
import { isPlainEnough } from "../links/peer-auth.ts";
import type { PeerIdentity } from "../wire/messages.ts";
import type { BorderAuthority } from "./border-gate.ts";
import { DialError, isRefusal } from "./call-failure.ts";
import { peerIdentityOf } from "./peer-identity.io.ts";

export interface DialTls {
  readonly context: SecureContext;
  readonly trustDomain: string;
  /** The node at the other end is one of this border, and this node asks for its own gate there. */
  readonly border?: { readonly authority: BorderAuthority; readonly gate: string };
}

export interface FabricDialOptions {
  /** `host:port`, an IPv6 host in brackets. */
  readonly address: string;
  /** Undefined: a plain connection. */
  readonly tls: DialTls | undefined;
  /** Plain connections to other machines too. */
  readonly isInsecure: boolean;
  readonly timeoutMs: number;
  readonly connection: Pick<ConnectionOptions, "limits" | "bounds" | "onLeaving">;
}

export interface DialResult {
  readonly connection: ClientConnection;
  readonly identity: PeerIdentity;
}

/** A dial under way. */
export interface PendingDial {
  readonly done: Promise<DialResult>;
  /** Gives it up; the promise is rejected. */
  cancel(): void;
}

/** Rejects with a `DialError` for people when nobody, or nobody of the fabric, is there in time. */
export function dial(options: FabricDialOptions): PendingDial {
  const { host, port } = splitHostPort(options.address);
  if (!(port > 0 && port < 65_536)) return { done: Promise.reject(new Error(`${options.address}: not host:port`)), cancel: () => {} };
  const socket = options.tls === undefined ? connectTcp({ host, port }) : secured(host, port, options.tls);
  socket.setNoDelay(true);
  let cancel = () => {};
  const done = new Promise<DialResult>((resolve, reject) => {
    let isConnected = false;
    let isOver = false;
    let second: Socket | undefined;
    const fail = (why: string, isRefused = false) => {
      isOver = true;
      timer.clear();
      socket.destroy();
      second?.destroy();
      reject(new DialError(`${options.address}: ${why}`, { isRefused }));
    };
    cancel = () => fail("given up");
    const timer = stallAwareTimeout(() => fail("no connection in time"), options.timeoutMs);
    socket.on("error", (error: NodeJS.ErrnoException) => fail(error.message, meansRefusal(error, socket)));
    socket.once("close", () => {
      if (isOver) return;
      if (options.tls !== undefined || !isConnected) return fail("connection closed", isConnected);
      if (socket.bytesRead > 0) return fail("it does not speak the fabric's protocol", true);
      // So closes a TLS server on who does not speak TLS, and a forwarder with nobody behind it.
      second = asksForTls(host, port, (isTls) =>
        fail(isTls ? "it speaks TLS, and this node has no certificates" : "connection closed", isTls),
      );
    });
    socket.once(options.tls === undefined ? "connect" : "secureConnect", () => {
      isConnected = true;
      const identity = peerIdentityOf(socket, options.tls?.trustDomain, options.tls?.border?.authority);
      if ("refused" in identity) return fail(identity.refused, true);
      if (options.tls === undefined && !isPlainEnough(identity, options.isInsecure))
        return fail("another machine is talked to with certificates only", true);
      const connection = new ClientConnection(socket, { authority: "fabric", scheme: "http", ...options.connection });
      const ready = () => {
        isOver = true;
        timer.clear();
        resolve({ connection, identity });
      };
      connection.ready().then(ready, () => {}); // Lost before; the socket's "close" says so.
    });
  });
  return { done, cancel: () => cancel() };
}

/** Whether a TLS server is there; told once, unless the socket is destroyed before. Nothing is sent on it but the greeting. */
function asksForTls(host: string, port: number, told: (isTls: boolean) => void): Socket {
  const socket = connectTls({ host, port, ALPNProtocols: ["h2"], rejectUnauthorized: false });
  socket.once("secureConnect", () => told(true));
  socket.on("error", (error: NodeJS.ErrnoException) => told(meansRefusal(error, socket)));
  socket.once("close", () => told(false));
  return socket;
}

/** Names are not compared: a node is known by its id, whatever the address it is reached at. */
function secured(host: string, port: number, { context: secureContext, border }: DialTls): TLSSocket {
  const named = border === undefined ? {} : { servername: border.gate };
  return connectTls({ host, port, secureContext, ALPNProtocols: ["h2"], checkServerIdentity: () => undefined, ...named });
}

function meansRefusal({ code = "" }: NodeJS.ErrnoException, socket: Socket): boolean {
  return isRefusal(code, socket instanceof TLSSocket && Boolean(socket.authorizationError));
}
