/**
 * HTTP/1.1 and HTTP/2 on one port: distinguishes them by ALPN or by the first bytes, and limits the resources that a slow client can use.
 */
import type { Server as Http1Server, IncomingMessage, Server, ServerResponse } from "node:http";
import {
  constants,
  createServer as createHttp2,
  type Http2Server,
  Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from "node:http2";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { ConnectionGuard, type GuardedConnection, type CutReason as GuardReason } from "../../grpc/server/connection-guard.io.ts";
import { ENDLESS } from "../../grpc/server/connection-lifetime.ts";
import { CONNECTION_LIMITS, type SchedulerShare, type TurnBounds } from "../../grpc/server/connection-limits.ts";
import { NODE_STREAM_LIMITS, type ResetLimits } from "../../grpc/server/reset-limiter.ts";
import type { UnreadLimits } from "../../grpc/server/unread-answers.ts";
import { isJustResumed, stallAwareDueMs, stallAwareNowMs, stallAwareTimeout } from "../../lib/stall-aware-time.io.ts";
import { identifyPeer } from "../peer.io.ts";

export type EdgeRequest = IncomingMessage | Http2ServerRequest;
export type EdgeResponse = ServerResponse | Http2ServerResponse;

/** Limits of the listener. */
export interface EdgeLimits extends UnreadLimits {
  readonly maxConnections: number;
  /**
   * A Connect call costs as much as ten calls of the gRPC listener, so a burst on one connection must be small enough not to delay others.
   */
  readonly maxStreamsPerConnection: number;
  /** Maximum number of open HTTP/2 streams across all connections. Additional streams are refused. */
  readonly maxStreams: number;
  /** Maximum size of a request message in bytes, before and after inflation. */
  readonly maxMessageBytes: number;
  /** Maximum total size of incomplete requests across all connections, in bytes. */
  readonly maxBufferedBytes: number;
  /** Maximum total size of the request line and headers, in bytes. */
  readonly maxHeaderBytes: number;
  /** Maximum time from the start of a connection or request to the end of its headers. */
  readonly headersTimeoutMs: number;
  /** Maximum time from the start of a request to the end of its body. For a bidirectional stream, maximum time to its first bytes. */
  readonly requestTimeoutMs: number;
  /** A connection without an open request is closed after this time, even if other bytes arrive on it. */
  readonly idleTimeoutMs: number;
  /**
   * An HTTP/2 connection is pinged when it has not received data for this long. The connection is closed when no data arrives within
   * `keepaliveTimeoutMs` after the ping.
   */
  readonly keepaliveTimeMs: number;
  readonly keepaliveTimeoutMs: number;
}

/** Limits that are not configurable. */
export const EDGE_FIXED = {
  maxStreamsPerConnection: 512,
  maxStreams: 50_000,
  maxBufferedBytes: 256 * 1_024 * 1_024,
  maxUnreadBytes: 128 * 1_024 * 1_024,
  progressTimeoutMs: 30_000,
  maxHeaderBytes: 16 * 1_024,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 30_000,
  idleTimeoutMs: 60_000,
} as const satisfies Partial<EdgeLimits>;

/**
 * Maximum number of calls that start in one turn of the event loop. Each call costs a quarter of a millisecond in Connect, and a call on another
 * connection waits for several turns: its arrival, its body, its response.
 */
const CALLS_PER_TURN: TurnBounds = { each: 1, all: 2 };
/** HTTP/2 state of one connection (headers, unsent frames), in MB. */
const MAX_SESSION_MEMORY_MB = 16;
const MAX_SETTINGS_ENTRIES = 32;
/** Limits on calls that a connection's client cancels. These limits are lower than on the gRPC listener, because each call costs more. */
const RESETS: ResetLimits = { resetBurst: 200, resetsPerSecond: 50 };
/** Maximum number of header fields in one request. HTTP/2 pseudo-headers are included. */
const MAX_HEADER_PAIRS = 64;
const MAX_UNANSWERED_PINGS = 10;
/** Maximum time for a client to send a complete HTTP/2 preface. */
const PREFACE_TIMEOUT_MS = 2_000;
/** Interval between Node's checks for requests that exceeded their time limit, in ms. */
const CHECK_INTERVAL_MS = 1_000;

export interface EdgeSocketEvents {
  onRequest(request: EdgeRequest, response: EdgeResponse, transport: "http1" | "h2"): void;
  onCut(why: EdgeCutReason, address: string): void;
}

/**
 * Why a connection was closed: it did not send data, queued too many requests, did not read a response (over HTTP/2, only that stream is closed), or
 * violated HTTP/2 limits.
 */
type EdgeCutReason = GuardReason | "silent" | "queued_requests";

/** The HTTP/1.1 and HTTP/2 servers. Neither server listens. Connections must be passed to `accept`. */
export class EdgeSockets {
  readonly #limits: EdgeLimits;
  readonly #events: EdgeSocketEvents;
  readonly #http1: Http1Server;
  readonly #http2: Http2Server;
  readonly #guard: ConnectionGuard;
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #unidentified = new Set<Socket>();
  readonly #shares = new WeakMap<Socket, SchedulerShare>();
  readonly #http1Connections: Http1Connections;

  constructor(limits: EdgeLimits, events: EdgeSocketEvents) {
    this.#limits = limits;
    this.#events = events;
    this.#http1 = openHttp1(limits);
    const { maxStreamsPerConnection: maxWaiting, idleTimeoutMs: idleMs, keepaliveTimeMs, keepaliveTimeoutMs } = limits;
    this.#http1Connections = new Http1Connections(this.#http1, { maxWaiting, idleMs, checkMs: CHECK_INTERVAL_MS });
    this.#http1.on("request", (request, response) => this.#enqueue(request, response));
    this.#guard = new ConnectionGuard({
      limits: { ...CONNECTION_LIMITS, ...RESETS },
      turns: CALLS_PER_TURN,
      lifetime: { ...ENDLESS, idleTimeoutMs: idleMs, keepaliveTimeMs, keepaliveTimeoutMs },
      arrivalMs: limits.requestTimeoutMs,
      onCut: (reason, address) => events.onCut(reason, address),
    });
    this.#http2 = openHttp2(limits);
    this.#http2.on("session", (session) => this.#keep(session));
    this.#http2.on("request", (request, response) => this.#admit(request, response));
  }

  #enqueue(request: IncomingMessage, response: ServerResponse): void {
    const { socket } = request;
    if (socket.destroyed) return;
    const isIn = this.#http1Connections.enter(request, response, () => {
      this.#inTurn(this.#shareOf(socket), () => {
        if (!request.destroyed) this.#hand(request, response, "http1");
      });
    });
    if (!isIn) this.#cut(socket, "queued_requests");
  }

  #cut(socket: Socket, why: EdgeCutReason): void {
    this.#events.onCut(why, socket.remoteAddress ?? "");
    socket.destroy();
  }

  #admit(request: Http2ServerRequest, response: Http2ServerResponse): void {
    request.on("error", () => {}); // "close" follows.
    if (this.#guard.openStreams > this.#limits.maxStreams) {
      request.stream.close(constants.NGHTTP2_REFUSED_STREAM);
      return;
    }
    // The call is deferred by one turn, so that a stream that was reset in the same read as its headers (the cheapest flood) does not cost a call (a
    // quarter of a millisecond in Connect).
    setImmediate(() => {
      const connection = this.connectionOf(request);
      if (connection === undefined) return;
      this.#inTurn(connection.turns, () => this.#begin(request, response, connection));
    });
  }

  #begin(request: Http2ServerRequest, response: Http2ServerResponse, connection: GuardedConnection): void {
    if (request.stream.closed || request.stream.destroyed || connection.isOver) return;
    if (connection.meter.isTaking) this.#hand(request, response, "h2");
    else connection.meter.park(() => this.#begin(request, response, connection));
  }

  /**
   * Rejects requests with too many header fields or bytes. Node would silently drop HTTP/1.1 fields above a maximum number. Over HTTP/2, Node resets
   * a stream whose header list exceeds the announced limit, but only after the client has received the settings. Until then, Node accepts 64 KiB.
   */
  #hand(request: EdgeRequest, response: EdgeResponse, transport: "http1" | "h2"): void {
    const { maxHeaderBytes } = this.#limits;
    const isTooMuch = transport === "http1" ? request.rawHeaders.length > 2 * MAX_HEADER_PAIRS : listSize(request) > maxHeaderBytes;
    if (!isTooMuch) return this.#events.onRequest(request, response, transport);
    response.statusCode = 431;
    response.setHeader("content-type", "text/plain");
    if (transport === "http1") response.setHeader("connection", "close");
    response.end(`request headers too large: the limits are ${MAX_HEADER_PAIRS} fields and ${maxHeaderBytes} bytes\n`);
  }

  #inTurn(share: SchedulerShare, act: () => void): void {
    const { turns } = this.#guard;
    if (turns.mayAct(share)) act();
    else turns.wait(share, act);
  }

  #shareOf(socket: Socket): SchedulerShare {
    const share = this.#shares.get(socket) ?? this.#guard.turns.join();
    this.#shares.set(socket, share);
    return share;
  }

  /** Returns the watched connection of an HTTP/2 request. */
  connectionOf(request: EdgeRequest): GuardedConnection | undefined {
    const session = request instanceof Http2ServerRequest ? request.stream.session : undefined;
    return session === undefined ? undefined : this.#guard.connectionOf(session);
  }

  /** Accepts a connection, after its TLS handshake if there is one. */
  accept(socket: Socket): void {
    if (socket instanceof TLSSocket) this.#give(socket, socket.alpnProtocol === "h2");
    else this.#peek(socket);
  }

  /** Closes idle connections now, and busy connections when their requests have been answered. */
  closeIdle(): void {
    this.#guard.stop();
    this.#http1.close();
    for (const socket of this.#unidentified) socket.destroy();
    for (const session of this.#sessions) session.close();
  }

  // The HTTP/2 preface is not a valid HTTP/1.1 request. The preface has 24 bytes. Usually, the first byte is enough to decide.
  #peek(socket: Socket): void {
    this.#unidentified.add(socket);
    let head: Buffer = Buffer.alloc(0);
    let timer = stallAwareTimeout(() => this.#cut(socket, "silent"), this.#limits.headersTimeoutMs);
    const leave = () => {
      timer.clear();
      this.#unidentified.delete(socket);
      socket.off("readable", look);
      socket.off("close", leave);
    };
    const look = () => {
      const chunk: unknown = socket.read();
      if (!Buffer.isBuffer(chunk)) return;
      const isFirst = head.length === 0;
      head = Buffer.concat([head, chunk]);
      const isPreface = PREFACE.subarray(0, head.length).equals(head.subarray(0, PREFACE.length));
      if (isPreface && head.length < PREFACE.length) {
        if (!isFirst) return;
        timer.clear();
        timer = stallAwareTimeout(() => this.#cut(socket, "slow_preface"), Math.min(PREFACE_TIMEOUT_MS, this.#limits.headersTimeoutMs));
        return;
      }
      leave();
      socket.unshift(head);
      this.#give(socket, isPreface);
    };
    socket.on("readable", look);
    socket.once("close", leave);
  }

  #give(socket: Socket, isHttp2: boolean): void {
    if (isHttp2) {
      this.#guard.accept(this.#http2, socket);
      return;
    }
    identifyPeer(socket, socket);
    this.#http1.emit("connection", socket);
    // Node stops reading a connection whose response waits to be read by the client. With TLS, Node still parses the records that it has decrypted,
    // and closes the connection at the second record ("Parse Error: Paused"). With a "data" listener, the stream keeps these records until Node reads
    // again.
    if (socket instanceof TLSSocket) socket.on("data", () => {});
  }

  #keep(session: ServerHttp2Session): void {
    this.#sessions.add(session);
    session.once("close", () => this.#sessions.delete(session));
    session.on("error", () => {}); // The client caused a protocol error. A "close" event follows.
    const connection = this.#guard.adopt(session);
    identifyPeer(connection, session.socket);
  }
}

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** Returns the header size as defined by HTTP/2: 32 bytes per field in addition to its name and value. */
function listSize({ rawHeaders }: EdgeRequest): number {
  let size = 16 * rawHeaders.length;
  for (const text of rawHeaders) size += text.length;
  return size;
}

function openHttp1(limits: EdgeLimits): Http1Server {
  // An import would also load undici, because the module's exports include WebSocket: 25 ms of each start.
  const server = process.getBuiltinModule("node:http").createServer({
    maxHeaderSize: limits.maxHeaderBytes,
    headersTimeout: Math.min(limits.headersTimeoutMs, limits.requestTimeoutMs),
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.idleTimeoutMs,
    connectionsCheckingInterval: CHECK_INTERVAL_MS,
    insecureHTTPParser: false,
  });
  // Closes a connection that neither sends nor reads data. An open watch receives a bookmark every few seconds.
  server.setTimeout(2 * limits.idleTimeoutMs);
  // This event is also emitted for keepAliveTimeout. While this process was paused, it did not read from any socket, so the timeout starts again.
  server.on("timeout", (socket: Socket) => {
    if (isJustResumed()) socket.setTimeout(socket.timeout ?? limits.idleTimeoutMs);
    else socket.destroy();
  });
  // The server never listens, but this event starts its checks for timeouts.
  server.emit("listening");
  return server;
}

function openHttp2(limits: EdgeLimits): Http2Server {
  const server = createHttp2({
    maxSessionMemory: MAX_SESSION_MEMORY_MB,
    maxSettings: MAX_SETTINGS_ENTRIES,
    maxHeaderListPairs: MAX_HEADER_PAIRS,
    maxOutstandingPings: MAX_UNANSWERED_PINGS,
    ...NODE_STREAM_LIMITS,
    // Fields with spaces around their value are kept, as over HTTP/1.1 (server.io.ts of grpc).
    strictFieldWhitespaceValidation: false,
    settings: {
      maxConcurrentStreams: limits.maxStreamsPerConnection,
      maxHeaderListSize: limits.maxHeaderBytes,
      enablePush: false,
    },
  });
  server.on("sessionError", () => {}); // The session also reports the error and closes.
  return server;
}

interface Http1Limits {
  /** Maximum number of requests per connection that wait for earlier responses. */
  readonly maxWaiting: number;
  readonly idleMs: number;
  readonly checkMs: number;
}

/**
 * HTTP/1.1 connections and their requests. A pipelined request waits until all earlier requests have been answered. Node buffers a response until the
 * earlier responses have been sent. If all requests started at the same time, 40 KB of requests could buffer a gigabyte of responses for a client
 * that does not read. A connection without a request is closed after a timeout, even if other bytes arrive on it. Node's own keep-alive timeout
 * restarts with every byte, including the bytes of an empty line before a request.
 */
class Http1Connections {
  readonly #limits: Http1Limits;
  /** For each connection with a request, the requests that wait for the response to the first request. */
  readonly #lines = new WeakMap<Socket, (() => void)[]>();
  /** Connections without a request, and when they became idle. The connection that has been idle longest is first. */
  readonly #idle = new Map<Socket, number>();

  constructor(server: Server, limits: Http1Limits) {
    this.#limits = limits;
    server.on("connection", (socket) => {
      this.#startIdle(socket);
      socket.once("close", () => this.#idle.delete(socket));
    });
    const timer = setInterval(() => this.#check(), limits.checkMs).unref();
    server.once("close", () => clearInterval(timer));
  }

  /**
   * Calls `begin` when all earlier responses on the connection have been sent. Returns false when too many requests are waiting. The caller must then
   * close the connection.
   */
  enter({ socket }: IncomingMessage, response: ServerResponse, begin: () => void): boolean {
    const act = () => {
      response.once("close", () => this.#leave(socket));
      begin();
    };
    const line = this.#lines.get(socket);
    if (line !== undefined) return line.push(act) <= this.#limits.maxWaiting;
    this.#idle.delete(socket);
    this.#lines.set(socket, []);
    act();
    return true;
  }

  #leave(socket: Socket): void {
    const next = socket.destroyed ? undefined : this.#lines.get(socket)?.shift();
    if (next !== undefined) return next();
    this.#lines.delete(socket);
    if (!socket.destroyed) this.#startIdle(socket);
  }

  #startIdle(socket: Socket): void {
    this.#idle.set(socket, stallAwareNowMs());
  }

  #check(): void {
    const dueMs = stallAwareDueMs();
    for (const [socket, sinceMs] of this.#idle) {
      if (dueMs - sinceMs <= this.#limits.idleMs) return;
      socket.destroy();
    }
  }
}
