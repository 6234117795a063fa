/**
 * A gRPC server on node:http2. It is given accepted sockets, and serves methods on them; it bounds everything that a client can make it
 * hold. What a call may do is decided in server-call.ts, what a connection may do in connection-limits.ts and connection-lifetime.ts.
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

/** Bounds of a server. Bytes and ms as the names say. */
export interface ServerLimits extends LifetimeLimits {
  /** Largest request message, also when it was compressed. */
  readonly maxReceiveBytes: number;
  readonly maxSendBytes: number;
  /** Bytes of requests that have not wholly arrived, over all connections. */
  readonly maxBufferedBytes: number;
  /** Streams open over all connections; beyond it new ones are refused with `quota_exceeded`. */
  readonly maxStreams: number;
  readonly maxStreamsPerConnection: number;
  /** From a call's start to the end of its request, or of a stream of requests to its first. */
  readonly requestTimeoutMs: number;
  /** Largest HTTP/2 state of one connection (headers, frames not yet sent), in MiB. */
  readonly maxSessionMemoryMiB: number;
  readonly maxHeaderPairs: number;
  /** Frames of one connection that break the protocol without ending it. */
  readonly maxInvalidFrames: number;
  /** What the client is told to keep its headers to, in bytes; nghttp2 takes 64 KiB at most. */
  readonly maxHeaderListBytes: number;
  /** What a client may send on one stream before it was taken. */
  readonly streamWindowBytes: number;
  /** The same for all streams of a connection together. */
  readonly connectionWindowBytes: number;
}

/** Bounds of the server that every client meets and no setting changes. */
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
  /** When a connection is cut. */
  readonly connectionLimits?: ConnectionLimits | undefined;
  /** Bounds on the answers of all connections that clients have not read; none unless given. */
  readonly unread?: UnreadLimits | undefined;
  /** Inflates compressed requests; without it they are refused. */
  readonly inflater?: Inflater | undefined;
  /**
   * The status for whatever ended a call: thrown by a handler, or a refusal of the server itself (`call` is undefined when no method was
   * found). Must not throw. Unless given, as `statusOfThrown`.
   */
  readonly statusOf?: ((thrown: unknown, call: MethodCall | undefined) => GrpcStatus) | undefined;
  /** A connection came. False refuses it before a stream is read. What is known of it may be kept by the object. */
  readonly onConnection?: ((connection: GuardedConnection, socket: ServerHttp2Session["socket"]) => boolean) | undefined;
  /** A connection was cut. */
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

  /** Serves a connection that was accepted, after its TLS handshake where there is one. */
  accept(socket: Socket): void {
    this.#guard.accept(this.#http2, socket);
  }

  /** What is open now. */
  counts(): { readonly connections: number; readonly streams: number; readonly bufferedBytes: number; readonly unreadBytes: number } {
    const { size: connections, openStreams: streams, unreadBytes } = this.#guard;
    return { connections, streams, bufferedBytes: this.#bounds.bufferedBytes, unreadBytes };
  }

  /**
   * Tells every client to go away (GOAWAY). Open calls are served, and those that cross the GOAWAY are told to be made elsewhere; a connection
   * closes when its last call is over, and is cut after `graceMs`. Sockets that are accepted later are served; whoever drains stops accepting first.
   */
  drain(graceMs: number): void {
    this.#guard.leaveAll(graceMs);
  }

  /** Ends the server's own timers, once its sockets are closed. */
  stop(): void {
    this.#guard.stop();
    this.#http2.close();
  }

  #adopt(session: ServerHttp2Session): void {
    session.on("error", () => {}); // "close" follows.
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
    // First of all, and on every stream: an error that nobody listens to ends the process.
    stream.on("error", ignore);
    const { session } = stream;
    const connection = session === undefined ? undefined : this.#guard.connectionOf(session);
    if (connection === undefined) return;
    const incoming: IncomingStream = { stream, headers, fields, connection };
    const { turns } = this.#guard;
    if (turns.mayAct(connection.turns)) this.#serve(incoming);
    else turns.wait(connection.turns, () => this.#serve(incoming));
  }

  #serve(incoming: IncomingStream): void {
    const { stream, headers, fields, connection } = incoming;
    if (!connection.meter.isTaking) {
      connection.meter.park(() => this.#serve(incoming));
      return;
    }
    // Reset in the same read as its HEADERS, or while it waited: to respond would throw. What is over still brings what comes in this turn.
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
      this.#refuse(incoming, new WaymarkError("quota_exceeded", `the server takes ${maxStreams} open calls`, { retryMs: 1_000 }));
      return;
    }
    const method = this.#methods.get(head.path);
    if (method === undefined) {
      this.#refuse(incoming, new WaymarkError("unimplemented", `no method ${head.path.slice(0, 200)} here`));
      return;
    }
    const port = new IncomingCall(incoming, method.kind !== "unary");
    const call = new ServerCall(method, { head, headers, fields, port, connection, environment: this.#environment });
    port.listen(call);
    call.start();
  }

  /** Refuses a stream without a method: the status goes in headers alone. */
  #refuse(incoming: IncomingStream, error: WaymarkError, headers?: NodeJS.Dict<string | string[]>): void {
    const { stream } = incoming;
    countRefusal(incoming);
    const fields = statusFields(this.#statusOf(error, undefined));
    stream.respond({ ":status": 200, "content-type": "application/grpc+proto", ...headers, ...fields }, TRAILERS_ONLY);
    stream.close(HTTP2_ERROR.NO_ERROR);
  }
}

/** A TLS client that did not agree on HTTP/2 is answered, and has so many ms to go. */
const UNKNOWN_PROTOCOL_MS = 2_000;

const TRAILERS_ONLY = { endStream: true, sendDate: false } as const;

function sessionOptions(limits: ServerLimits) {
  return {
    maxSessionMemory: limits.maxSessionMemoryMiB,
    maxHeaderListPairs: limits.maxHeaderPairs,
    unknownProtocolTimeout: UNKNOWN_PROTOCOL_MS,
    ...NODE_STREAM_LIMITS,
    maxSessionInvalidFrames: limits.maxInvalidFrames,
    // A name that HTTP wants once may be an application's metadata, which may repeat.
    strictSingleValueFields: false,
    // By default a field with spaces around its value is dropped without a word: a wrong credential would be none, and of two one would be left.
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
  // "close" follows, and is what we act on.
}

// One call's stream on node:http2: tells its `ServerCall` what comes, writes what that orders, and keeps the connection's counts.

/** A stream that a client opened. */
interface IncomingStream {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  /** Names and values in turn, as they came. */
  readonly fields: readonly string[];
  readonly connection: GuardedConnection;
}

/** Without `date`, which gRPC has no use for and Node formats anew for each answer. */
const WITH_TRAILERS = { waitForTrailers: true, sendDate: false } as const;

const CALL: unique symbol = Symbol("waymark call");
type ServerCallStream = ServerHttp2Stream & { [CALL]?: IncomingCall };

// HOT: one object and four shared listeners a call; a closure for each instead cost 1.5 µs.
class IncomingCall extends Http2StreamPort<ServerHttp2Stream> implements CallPort, PendingRequest {
  sinceMs: number | undefined;
  readonly #connection: GuardedConnection;
  readonly #isLasting: boolean;
  #call: ServerCall | undefined;
  #pendingBytes = 0;

  /** `isLasting` for streams, which make room for as many more. */
  constructor({ stream, connection }: IncomingStream, isLasting: boolean) {
    super(stream);
    this.#connection = connection;
    this.#isLasting = isLasting;
  }

  /** Starts reading; from now on the call hears of everything. The stream's errors are the server's to listen to. */
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

  /** The listeners' way in; nobody else calls these four. */
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
    // Node sends trailers in a setImmediate of its own; a stream closed before that would be without.
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
