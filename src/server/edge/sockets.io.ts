/** HTTP/1.1 and HTTP/2 behind one port: tells them apart by ALPN or by the first bytes, and bounds what a slow client may hold. */
import { createServer as createHttp1, type Server as Http1Server, type IncomingMessage, type Server, type ServerResponse } from "node:http";
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

/** Bounds of the listener; every one is a setting. */
export interface EdgeLimits extends UnreadLimits {
  readonly maxConnections: number;
  /** A Connect call costs ten of a gRPC listener's, so a burst on one connection must be small to be no pause for others. */
  readonly maxStreamsPerConnection: number;
  /** HTTP/2 streams open over all connections; new ones beyond it are refused. */
  readonly maxStreams: number;
  /** Largest request message, in bytes, also after decompression. */
  readonly maxMessageBytes: number;
  /** Bytes of requests that have not wholly arrived, over all connections. */
  readonly maxBufferedBytes: number;
  /** Request line and headers together, in bytes. */
  readonly maxHeaderBytes: number;
  /** From a connection's start, or a request's, to the end of its headers. */
  readonly headersTimeoutMs: number;
  /** From a request's start to the end of its body, or of a stream in both directions to its first bytes. */
  readonly requestTimeoutMs: number;
  /** A connection without an open request is closed after this, whatever else comes on it. */
  readonly idleTimeoutMs: number;
  /** An HTTP/2 connection on which nothing came for so long is pinged, and cut when it then answers nothing for `keepaliveTimeoutMs`. */
  readonly keepaliveTimeMs: number;
  readonly keepaliveTimeoutMs: number;
}

/** Limits that are not settings. */
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
 * Calls begun in one turn of the event loop: each costs a quarter of a millisecond in Connect's machinery, and another
 * connection's call waits for several turns: its arrival, its body, its answer.
 */
const CALLS_PER_TURN: TurnBounds = { each: 1, all: 2 };
/** One connection's HTTP/2 state (headers, frames not yet taken), in MB. */
const MAX_SESSION_MEMORY_MB = 16;
const MAX_SETTINGS_ENTRIES = 32;
/** Limits on calls that the client of a connection cancels. They are lower than on the gRPC listener, because each call costs more. */
const RESETS: ResetLimits = { resetBurst: 200, resetsPerSecond: 50 };
/** Fields of one request; with HTTP/2 its pseudo-headers count. */
const MAX_HEADER_PAIRS = 64;
const MAX_UNANSWERED_PINGS = 10;
/** A client that begins with HTTP/2's preface sends it whole. */
const PREFACE_TIMEOUT_MS = 2_000;
/** How often node looks for requests over their time, in ms. */
const CHECK_INTERVAL_MS = 1_000;

export interface EdgeSocketEvents {
  onRequest(request: EdgeRequest, response: EdgeResponse, transport: "http1" | "h2"): void;
  onCut(why: EdgeCutReason, address: string): void;
}

/** Why a connection was cut: it sent nothing, queued too many requests, did not read an answer (over HTTP/2 only that stream is cut), or abused HTTP/2. */
type EdgeCutReason = GuardReason | "silent" | "queued_requests";

/** Both servers; neither listens, connections are given to `accept`. */
export class EdgeSockets {
  readonly #limits: EdgeLimits;
  readonly #events: EdgeSocketEvents;
  readonly #http1: Http1Server;
  readonly #http2: Http2Server;
  readonly #guard: ConnectionGuard;
  readonly #sessions = new Set<ServerHttp2Session>();
  readonly #undecided = new Set<Socket>();
  readonly #shares = new WeakMap<Socket, SchedulerShare>();
  readonly #http1Connections: Http1Connections;

  constructor(limits: EdgeLimits, events: EdgeSocketEvents) {
    this.#limits = limits;
    this.#events = events;
    this.#http1 = openHttp1(limits);
    const { maxStreamsPerConnection: maxWaiting, idleTimeoutMs: idleMs, keepaliveTimeMs, keepaliveTimeoutMs } = limits;
    this.#http1Connections = new Http1Connections(this.#http1, { maxWaiting, idleMs, checkMs: CHECK_INTERVAL_MS });
    this.#http1.on("request", (request, response) => this.#line(request, response));
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

  #line(request: IncomingMessage, response: ServerResponse): void {
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
    // One turn later: what was reset in the same read as its headers, the cheapest flood there is, then costs us no call
    // (of a quarter of a millisecond in Connect's machinery).
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
   * Node would drop fields of HTTP/1.1 beyond a count in silence. Over HTTP/2 it resets a stream whose list is longer than we announced,
   * but not before the client has taken our settings: until then it takes 64 KiB.
   */
  #hand(request: EdgeRequest, response: EdgeResponse, transport: "http1" | "h2"): void {
    const { maxHeaderBytes } = this.#limits;
    const isTooMuch = transport === "http1" ? request.rawHeaders.length > 2 * MAX_HEADER_PAIRS : listSize(request) > maxHeaderBytes;
    if (!isTooMuch) return this.#events.onRequest(request, response, transport);
    response.statusCode = 431;
    response.setHeader("content-type", "text/plain");
    if (transport === "http1") response.setHeader("connection", "close");
    response.end(`the headers of a request are at most ${MAX_HEADER_PAIRS} fields and ${maxHeaderBytes} bytes\n`);
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

  /** The watched connection an HTTP/2 request came on. */
  connectionOf(request: EdgeRequest): GuardedConnection | undefined {
    const session = request instanceof Http2ServerRequest ? request.stream.session : undefined;
    return session === undefined ? undefined : this.#guard.connectionOf(session);
  }

  /** Takes a connection, TLS already spoken. */
  accept(socket: Socket): void {
    if (socket instanceof TLSSocket) this.#give(socket, socket.alpnProtocol === "h2");
    else this.#peek(socket);
  }

  /** Idle connections close now, busy ones when their requests are answered. */
  closeIdle(): void {
    this.#guard.stop();
    this.#http1.close();
    for (const socket of this.#undecided) socket.destroy();
    for (const session of this.#sessions) session.close();
  }

  // The preface that opens HTTP/2 is no HTTP/1.1 request: 24 bytes decide, and usually the first.
  #peek(socket: Socket): void {
    this.#undecided.add(socket);
    let head: Buffer = Buffer.alloc(0);
    let timer = stallAwareTimeout(() => this.#cut(socket, "silent"), this.#limits.headersTimeoutMs);
    const leave = () => {
      timer.clear();
      this.#undecided.delete(socket);
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
    // Node stops reading a connection whose answer waits to be taken. With TLS it still parses the records it has decrypted, and ends
    // the connection for the second one ("Parse Error: Paused"). A reader of the data has the stream keep them until Node reads on.
    if (socket instanceof TLSSocket) socket.on("data", () => {});
  }

  #keep(session: ServerHttp2Session): void {
    this.#sessions.add(session);
    session.once("close", () => this.#sessions.delete(session));
    session.on("error", () => {}); // A protocol fault of the client's; "close" follows.
    const connection = this.#guard.adopt(session);
    identifyPeer(connection, session.socket);
  }
}

const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

/** As HTTP/2 counts: each field costs 32 more than its name and its value. */
function listSize({ rawHeaders }: EdgeRequest): number {
  let size = 16 * rawHeaders.length;
  for (const text of rawHeaders) size += text.length;
  return size;
}

function openHttp1(limits: EdgeLimits): Http1Server {
  const server = createHttp1({
    maxHeaderSize: limits.maxHeaderBytes,
    headersTimeout: Math.min(limits.headersTimeoutMs, limits.requestTimeoutMs),
    requestTimeout: limits.requestTimeoutMs,
    keepAliveTimeout: limits.idleTimeoutMs,
    connectionsCheckingInterval: CHECK_INTERVAL_MS,
    insecureHTTPParser: false,
  });
  // A connection that neither sends nor takes anything; an open watch has a bookmark every few seconds.
  server.setTimeout(2 * limits.idleTimeoutMs);
  // Also for what keepAliveTimeout ends. While we stood still nobody was read: then a socket has its time once more.
  server.on("timeout", (socket: Socket) => {
    if (isJustResumed()) socket.setTimeout(socket.timeout ?? limits.idleTimeoutMs);
    else socket.destroy();
  });
  // It never listens itself, but this is what starts the watch over its timeouts.
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
    // Fields with spaces around their value are read, as over HTTP/1.1 (server.io.ts of grpc).
    strictFieldWhitespaceValidation: false,
    settings: {
      maxConcurrentStreams: limits.maxStreamsPerConnection,
      maxHeaderListSize: limits.maxHeaderBytes,
      enablePush: false,
    },
  });
  server.on("sessionError", () => {}); // Reported on the session too, which closes.
  return server;
}

interface Http1Limits {
  /** Requests of one connection that wait for the answer to another. */
  readonly maxWaiting: number;
  readonly idleMs: number;
  readonly checkMs: number;
}

/**
 * Connections of HTTP/1.1 and their requests. A request that comes before those before it are answered stands in line: Node keeps an answer
 * until those before it have gone out, so begun all at once, 40 KB of requests would be a gigabyte of answers for a client that takes none.
 * A connection without a request is closed after a time, whatever else comes on it: Node's own keep-alive timeout begins anew with every
 * byte, also with those of an empty line before a request.
 */
class Http1Connections {
  readonly #limits: Http1Limits;
  /** Of each connection with a request: those that wait for the answer to the first. */
  readonly #lines = new WeakMap<Socket, (() => void)[]>();
  /** Connections without a request, and since when; the one that rests longest is the first. */
  readonly #resting = new Map<Socket, number>();

  constructor(server: Server, limits: Http1Limits) {
    this.#limits = limits;
    server.on("connection", (socket) => {
      this.#rest(socket);
      socket.once("close", () => this.#resting.delete(socket));
    });
    const timer = setInterval(() => this.#check(), limits.checkMs).unref();
    server.once("close", () => clearInterval(timer));
  }

  /** Calls `begin` when all answers before it have gone out. False when too many wait: the connection is to be cut. */
  enter({ socket }: IncomingMessage, response: ServerResponse, begin: () => void): boolean {
    const act = () => {
      response.once("close", () => this.#leave(socket));
      begin();
    };
    const line = this.#lines.get(socket);
    if (line !== undefined) return line.push(act) <= this.#limits.maxWaiting;
    this.#resting.delete(socket);
    this.#lines.set(socket, []);
    act();
    return true;
  }

  #leave(socket: Socket): void {
    const next = socket.destroyed ? undefined : this.#lines.get(socket)?.shift();
    if (next !== undefined) return next();
    this.#lines.delete(socket);
    if (!socket.destroyed) this.#rest(socket);
  }

  #rest(socket: Socket): void {
    this.#resting.set(socket, stallAwareNowMs());
  }

  #check(): void {
    const dueMs = stallAwareDueMs();
    for (const [socket, sinceMs] of this.#resting) {
      if (dueMs - sinceMs <= this.#limits.idleMs) return;
      socket.destroy();
    }
  }
}
