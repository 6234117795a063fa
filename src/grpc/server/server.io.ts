/**
 * A gRPC server on node:http2. It receives accepted sockets and serves methods on them, with a limit on every resource that a client can use. The
 * rules of a call are in server-call.ts, and the rules of a connection are in connection-limits.ts and connection-lifetime.ts.
 */
import { createServer, type Http2Server, type IncomingHttpHeaders, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";
import type { Socket } from "node:net";
import { WaymarkError } from "../../lib/errors.ts";
import { Http2StreamPort, isReset, nodeHeaders } from "../wire/http2-stream.io.ts";
import type { Inflater } from "../wire/message-reader.ts";
import { type AssemblyBounds, DEFAULT_WINDOW_BYTES } from "../wire/message-reader.ts";
import type { HeaderBlock } from "../wire/metadata.ts";
import { readHead } from "../wire/request-head.ts";
import { type GrpcStatus, HTTP2_ERROR, statusFields, statusOfThrown } from "../wire/status.ts";
import { ConnectionGuard, type CutReason, type GuardedConnection, type PendingRequest } from "./connection-guard.io.ts";
import type { LifetimeLimits } from "./connection-lifetime.ts";
import type { ConnectionLimits } from "./connection-limits.ts";
import type { GrpcMethod, MethodCall } from "./method.ts";
import { NODE_STREAM_LIMITS } from "./reset-limiter.ts";
import { type CallEnvironment, type CallPort, ServerCall } from "./server-call.ts";
import type { UnreadLimits } from "./unread-answers.ts";

/** Limits of a server. Field names contain the unit. */
export interface ServerLimits extends LifetimeLimits {
  /** Maximum size of a request message, before and after inflation. */
  readonly maxReceiveBytes: number;
  readonly maxSendBytes: number;
  /** Maximum bytes of incomplete requests, over all connections. */
  readonly maxBufferedBytes: number;
  /** Maximum number of open streams over all connections. Further streams are rejected with `quota_exceeded`. */
  readonly maxStreams: number;
  readonly maxStreamsPerConnection: number;
  /** Time from the start of a call to the end of its request. For a stream of requests, to the first request. */
  readonly requestTimeoutMs: number;
  /** Maximum HTTP/2 state of one connection (headers, unsent frames), in MiB. */
  readonly maxSessionMemoryMiB: number;
  readonly maxHeaderPairs: number;
  /** Maximum number of frames on one connection that violate the protocol without ending the connection. */
  readonly maxInvalidFrames: number;
  /** The limit on header bytes that is advertised to clients (SETTINGS_MAX_HEADER_LIST_SIZE). nghttp2 accepts at most 64 KiB. */
  readonly maxHeaderListBytes: number;
  /** Initial flow-control window of a stream: the number of bytes that a client can send before the server has read them. */
  readonly streamWindowBytes: number;
  /** The flow-control window shared by all streams of a connection. */
  readonly connectionWindowBytes: number;
}

/** Server limits that apply to every client and cannot be configured. */
export const SERVER_FIXED = {
  maxSendBytes: 2 ** 32 - 1,
  maxBufferedBytes: 268_435_456,
  maxUnreadBytes: 134_217_728,
  progressTimeoutMs: 30_000,
  requestTimeoutMs: 30_000,
  maxSessionMemoryMiB: 64,
  maxHeaderPairs: 64,
  maxInvalidFrames: 100,
  maxHeaderListBytes: 65_535,
  streamWindowBytes: DEFAULT_WINDOW_BYTES,
  connectionWindowBytes: DEFAULT_WINDOW_BYTES,
  idleTimeoutMs: 300_000,
} as const satisfies Partial<ServerLimits & UnreadLimits>;

export interface ServerOptions {
  readonly methods: readonly GrpcMethod[];
  readonly limits: ServerLimits;
  /** Limits whose violation closes a connection. */
  readonly connectionLimits?: ConnectionLimits | undefined;
  /** Limits on unread answers, over all connections. If absent, there are no limits. */
  readonly unread?: UnreadLimits | undefined;
  /** Inflates compressed requests. If absent, compressed requests are rejected. */
  readonly inflater?: Inflater | undefined;
  /**
   * Returns the status for an error that ended a call: a value thrown by a handler, or a rejection by the server itself (`call` is undefined if no
   * method was found). Must not throw. Default: `statusOfThrown`.
   */
  readonly statusOf?: ((thrown: unknown, call: MethodCall | undefined) => GrpcStatus) | undefined;
  /**
   * Called for each new connection. Returning false rejects the connection before any stream is read. The connection object can be used
   * as a key for data about the connection.
   */
  readonly onConnection?: ((connection: GuardedConnection, socket: ServerHttp2Session["socket"]) => boolean) | undefined;
  /** Called when a connection was closed because of a limit. */
  readonly onCut?: ((reason: CutReason, address: string) => void) | undefined;
}

export class GrpcServer {
  readonly #options: ServerOptions;
  readonly #http2: Http2Server;
  readonly #guard: ConnectionGuard;
  readonly #methods: ReadonlyMap<string, GrpcMethod>;
  readonly #bounds: AssemblyBounds;
  readonly #environment: CallEnvironment;
  readonly #statusOf: (thrown: unknown, call: MethodCall | undefined) => GrpcStatus;

  constructor(options: ServerOptions) {
    const { limits } = options;
    this.#options = options;
    this.#methods = new Map(options.methods.map((method) => [method.path, method]));
    this.#statusOf = options.statusOf ?? statusOfThrown;
    this.#bounds = { maxMessageBytes: limits.maxReceiveBytes, maxBufferedBytes: limits.maxBufferedBytes, bufferedBytes: 0 };
    this.#environment = {
      bounds: this.#bounds,
      maxSendBytes: limits.maxSendBytes,
      inflater: options.inflater,
      statusOf: this.#statusOf,
      nowMs: () => performance.now(),
    };
    this.#guard = new ConnectionGuard({
      limits: options.connectionLimits,
      lifetime: limits,
      arrivalMs: limits.requestTimeoutMs,
      unread: options.unread,
      onCut: (reason, address) => options.onCut?.(reason, address),
    });
    this.#http2 = createServer(sessionOptions(limits));
    this.#http2.on("session", (session) => this.#adopt(session));
    this.#http2.on("sessionError", () => {}); // Each session's "close" follows.
    this.#http2.on("stream", (stream, headers, _flags, fields: readonly string[]) => this.#arrived(stream, headers, fields));
  }

  /** Serves an accepted connection, after its TLS handshake if there is one. */
  accept(socket: Socket): void {
    this.#guard.accept(this.#http2, socket);
  }

  /** Returns current counts. */
  counts(): { readonly connections: number; readonly streams: number; readonly bufferedBytes: number; readonly unreadBytes: number } {
    const { size: connections, openStreams: streams, unreadBytes } = this.#guard;
    return { connections, streams, bufferedBytes: this.#bounds.bufferedBytes, unreadBytes };
  }

  /**
   * Sends GOAWAY to every client. Open calls are still served. Clients retry calls that cross the GOAWAY on another connection. A connection closes
   * when its last call has ended, and is destroyed after `graceMs`. Sockets that are accepted after this call are still served, so stop accepting
   * before draining.
   */
  drain(graceMs: number): void {
    this.#guard.leaveAll(graceMs);
  }

  /** Stops the server's own timers. Call this method when the server's sockets are closed. */
  stop(): void {
    this.#guard.stop();
    this.#http2.close();
  }

  #adopt(session: ServerHttp2Session): void {
    session.on("error", ignore);
    if (session.destroyed) return;
    const connection = this.#guard.adopt(session);
    if (this.#options.onConnection?.(connection, session.socket) === false) {
      session.destroy();
      return;
    }
    const { connectionWindowBytes } = this.#options.limits;
    if (connectionWindowBytes > DEFAULT_WINDOW_BYTES) session.setLocalWindowSize(connectionWindowBytes);
  }

  #arrived(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, fields: readonly string[]): void {
    // This listener must be added first, and to every stream, because an "error" event without a listener ends the process.
    stream.on("error", ignore);
    const { session } = stream;
    const connection = session === undefined ? undefined : this.#guard.connectionOf(session);
    if (connection === undefined) return;
    const method = this.#methods.get(headers[":path"] ?? "");
    const incoming: IncomingStream = { stream, headers, fields, connection, method };
    const isLowPriority = method?.isLowPriority === true;
    const [turns, share] = isLowPriority
      ? [this.#guard.lowPriorityTurns, connection.lowPriorityTurns]
      : [this.#guard.turns, connection.turns];
    if (turns.mayAct(share)) this.#serve(incoming);
    else turns.wait(share, () => this.#serve(incoming));
  }

  #serve(incoming: IncomingStream): void {
    const { stream, headers, fields, connection, method } = incoming;
    if (!connection.meter.isTaking) {
      connection.meter.park(() => this.#serve(incoming));
      return;
    }
    // The stream may have been reset in the same read as its HEADERS, or while it was waiting. In that case, responding would throw. A closing
    // connection still delivers the events of this turn.
    if (stream.destroyed || stream.closed || connection.isOver) return;
    const head = readHead(headers);
    if (head.kind === "http") {
      countRefusal(incoming);
      stream.respond(nodeHeaders(head.headers), { endStream: head.text === "" });
      if (head.text !== "") stream.end(head.text);
      stream.close(HTTP2_ERROR.NO_ERROR);
      return;
    }
    if (head.kind === "refused") {
      this.#refuse(incoming, head.error, nodeHeaders(head.headers));
      return;
    }
    if (this.#guard.openStreams > this.#options.limits.maxStreams) {
      const { maxStreams } = this.#options.limits;
      this.#refuse(
        incoming,
        new WaymarkError("quota_exceeded", `too many open calls: the server's limit is ${maxStreams}; retry later`, { retryMs: 1_000 }),
      );
      return;
    }
    if (method === undefined) {
      this.#refuse(incoming, new WaymarkError("unimplemented", `unknown method ${head.path.slice(0, 200)} on this port`));
      return;
    }
    const port = new IncomingCall(incoming, method.kind !== "unary");
    const call = new ServerCall(method, { head, headers, fields, port, connection, environment: this.#environment });
    port.listen(call);
    call.start();
  }

  /** Rejects a stream for which no method was found, with a status in headers only (Trailers-Only). */
  #refuse(incoming: IncomingStream, error: WaymarkError, headers?: NodeJS.Dict<string | string[]>): void {
    const { stream } = incoming;
    countRefusal(incoming);
    const fields = statusFields(this.#statusOf(error, undefined));
    stream.respond({ ":status": 200, "content-type": "application/grpc+proto", ...headers, ...fields }, TRAILERS_ONLY);
    stream.close(HTTP2_ERROR.NO_ERROR);
  }
}

/** A TLS client that did not negotiate HTTP/2 receives a response, and must then close the connection within this time. */
const UNKNOWN_PROTOCOL_MS = 2_000;

const TRAILERS_ONLY = { endStream: true, sendDate: false } as const;

function sessionOptions(limits: ServerLimits) {
  return {
    maxSessionMemory: limits.maxSessionMemoryMiB,
    maxHeaderListPairs: limits.maxHeaderPairs,
    unknownProtocolTimeout: UNKNOWN_PROTOCOL_MS,
    ...NODE_STREAM_LIMITS,
    maxSessionInvalidFrames: limits.maxInvalidFrames,
    // Application metadata may repeat a field that HTTP allows once.
    strictSingleValueFields: false,
    // By default, Node.js silently drops a field with spaces around its value. The server would then treat a malformed credential as absent, and two
    // credentials as one.
    strictFieldWhitespaceValidation: false,
    settings: {
      enablePush: false,
      initialWindowSize: limits.streamWindowBytes,
      maxConcurrentStreams: limits.maxStreamsPerConnection,
      maxHeaderListSize: limits.maxHeaderListBytes,
    },
  };
}

function countRefusal({ connection, stream }: IncomingStream): void {
  connection.meter.refusalCount += 1;
  if (!stream.endAfterHeaders) connection.meter.brokenUploads += 1;
}

function ignore(): void {
  // No action is needed, because the "close" event that follows is handled.
}

// The stream of one call on node:http2: reports its events to its `ServerCall`, performs the call's writes, and updates the counters of the
// connection.

/** A stream that a client opened. */
interface IncomingStream {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  /** Alternating names and values in the order of arrival. */
  readonly fields: readonly string[];
  readonly connection: GuardedConnection;
  /** Undefined if the server does not have it. */
  readonly method: GrpcMethod | undefined;
}

/** Omits the `date` header, because gRPC does not use it and Node.js would format it for every response. */
const WITH_TRAILERS = { waitForTrailers: true, sendDate: false } as const;

const CALL: unique symbol = Symbol("waymark call");
type ServerCallStream = ServerHttp2Stream & { [CALL]?: IncomingCall };

// HOT: uses one object and four shared listeners per call. A closure for each listener took 1.5 µs more.
class IncomingCall extends Http2StreamPort<ServerHttp2Stream> implements CallPort, PendingRequest {
  sinceMs: number | undefined;
  readonly #connection: GuardedConnection;
  readonly #isLasting: boolean;
  #call: ServerCall | undefined;
  #pendingBytes = 0;

  /** `isLasting` is set for streams, because a client may reset all its long-lived streams at the same time. */
  constructor({ stream, connection }: IncomingStream, isLasting: boolean) {
    super(stream);
    this.#connection = connection;
    this.#isLasting = isLasting;
  }

  /** Starts reading. The call receives all events from now on. The server itself handles the stream's errors. */
  listen(call: ServerCall): void {
    const stream: ServerCallStream = this.stream;
    this.#call = call;
    stream[CALL] = this;
    this.#connection.arriving.add(this);
    if (this.#isLasting) this.#connection.lastingOpened();
    stream.on("data", onData);
    stream.on("end", onEnd);
    stream.on("close", onClose);
    stream.on("wantTrailers", onWantTrailers);
  }

  arrived(): void {
    this.#connection.arriving.delete(this);
  }

  giveUp(): void {
    this.reset(HTTP2_ERROR.CANCEL);
  }

  checkArrival(): void {
    this.#call?.checkArrival();
  }

  respond(headers: HeaderBlock, isEnd: boolean): void {
    if (!this.isGone) this.stream.respond(nodeHeaders(headers), isEnd ? TRAILERS_ONLY : WITH_TRAILERS);
  }

  override reset(http2Code: number): void {
    if (http2Code === HTTP2_ERROR.NO_ERROR) this.#connection.meter.brokenUploads += 1;
    super.reset(http2Code);
  }

  override end(bytes?: Uint8Array): void {
    if (bytes !== undefined && !this.isGone) {
      this.#pendingBytes += bytes.length;
      this.#connection.meter.pendingBytes += bytes.length;
    }
    super.end(bytes);
  }

  /** Called only by the four listeners below. */
  onData(chunk: Uint8Array): void {
    this.#connection.meter.usefulBytes += chunk.length;
    this.#call?.data(chunk);
  }

  onEnd(): void {
    if (!isReset(this.stream)) this.#call?.requestEnded();
  }

  onClose(): void {
    this.arrived();
    this.#connection.meter.pendingBytes -= this.#pendingBytes;
    this.#pendingBytes = 0;
    if (this.#isLasting) this.#connection.lastingClosed();
    this.#call?.closed();
  }

  onWantTrailers(): void {
    const call = this.#call;
    if (this.isGone || call === undefined) return;
    this.stream.sendTrailers(nodeHeaders(call.trailers()));
    // Node.js sends trailers in a setImmediate callback. If the stream closed before that, the trailers would be lost.
    if (!call.isRequestEnded) setImmediate(() => call.trailersSent());
  }
}

function onData(this: ServerCallStream, chunk: Uint8Array): void {
  this[CALL]?.onData(chunk);
}

function onEnd(this: ServerCallStream): void {
  this[CALL]?.onEnd();
}

function onClose(this: ServerCallStream): void {
  this[CALL]?.onClose();
}

function onWantTrailers(this: ServerCallStream): void {
  this[CALL]?.onWantTrailers();
}
