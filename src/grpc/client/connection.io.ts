/**
 * A client's connection to one server on node:http2: it starts calls, answers for their bounds, keeps itself alive, and says when the
 * server sends it away. What a call may do is decided in client-call.ts.
 */
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2, type IncomingHttpHeaders } from "node:http2";
import { addAbortSignal, type Duplex } from "node:stream";
import { assert, CODES } from "../../lib/errors.ts";
import { stallAwareDueMs, stallAwareNowMs } from "../../lib/stall-aware-time.io.ts";
import { endInNextTurn, Http2StreamPort, isReset, nodeHeaders } from "../wire/http2-stream.io.ts";
import { Keepalive, type KeepaliveLimits } from "../wire/keepalive.ts";
import type { AssemblyBounds, Inflater } from "../wire/message-reader.ts";
import { DEFAULT_WINDOW_BYTES } from "../wire/message-reader.ts";
import { requestFields } from "../wire/request-head.ts";
import { HTTP2_ERROR } from "../wire/status.ts";
import { type CallListener, type CallRequest, type CallResult, ClientCall } from "./client-call.ts";

/** Bounds of a connection. Bytes and ms as the names say. */
export interface ClientLimits extends KeepaliveLimits {
  /** Largest answer, also when it was compressed. */
  readonly maxReceiveBytes: number;
  readonly maxSendBytes: number;
  /** Bytes of answers that have not wholly arrived, over all calls of the connection. */
  readonly maxBufferedBytes: number;
  /** Calls open at once; more end with RESOURCE_EXHAUSTED. */
  readonly maxCalls: number;
  readonly maxSessionMemoryMiB: number;
  readonly maxHeaderPairs: number;
  readonly maxHeaderListBytes: number;
  /** What the server may send on one stream before it was taken. */
  readonly streamWindowBytes: number;
  /** The same for all streams together. */
  readonly connectionWindowBytes: number;
}

export interface ConnectionOptions {
  /** What `:authority` says: host and port as the caller knows the server. */
  readonly authority: string;
  readonly scheme: "http" | "https";
  readonly limits: ClientLimits;
  /** Bounds for answers that have not wholly arrived, where several connections share them; then those of `limits` do not count. */
  readonly bounds?: AssemblyBounds | undefined;
  /** Inflates compressed answers; without it none are asked for. */
  readonly inflater?: Inflater | undefined;
  /** Requests say that they are in gzip: then frames given to `writeFrame` may be compressed. */
  readonly sendsGzip?: boolean | undefined;
  /** The connection takes no more calls: the server sent it away, or it is lost. Called once. */
  readonly onLeaving?: (() => void) | undefined;
  /** While calls are open the server is pinged a few times a second, for `delayMs`. */
  readonly measuresDelay?: boolean | undefined;
}

/** What a connection speaks on: a socket, or what stands before one. */
export interface ByteTransport extends Duplex {
  /** Bytes that came so far. */
  readonly bytesRead: number;
}

const CHECK_MS = 250;
const END_STREAM = 1;

export class ClientConnection {
  readonly #session: ClientHttp2Session;
  readonly #socket: ByteTransport;
  readonly #options: ConnectionOptions;
  readonly #limits: ClientLimits;
  readonly #bounds: AssemblyBounds;
  readonly #keepalive: Keepalive;
  readonly #timer: NodeJS.Timeout;
  #callCount = 0;
  #isLeaving = false;
  #isReady = false;
  #whyLost = "the connection was lost";
  #lastStreamId = Number.POSITIVE_INFINITY;
  /** The server has answered a ping that was sent then; at first, nothing can have been sent before the connection was there. */
  #answeredMs = performance.now();

  /** Speaks HTTP/2 on a socket that is connected, after its TLS handshake where there is one. The connection owns the socket from now on. */
  constructor(socket: ByteTransport, options: ConnectionOptions) {
    const { limits } = options;
    this.#socket = socket;
    this.#options = options;
    this.#limits = limits;
    this.#bounds = options.bounds ?? {
      maxMessageBytes: limits.maxReceiveBytes,
      maxBufferedBytes: limits.maxBufferedBytes,
      bufferedBytes: 0,
    };
    this.#keepalive = new Keepalive(limits, stallAwareNowMs());
    this.#session = startSession(socket, options, limits);
    this.#session.on("error", (error: Error) => {
      this.#whyLost = `the connection was lost: ${error.message}`;
    }); // "close" follows, and each stream hears of it.
    this.#session.on("goaway", (code: number, lastStreamId: number) => {
      this.#lastStreamId = lastStreamId;
      this.#whyLost = `the server closed the connection with HTTP/2 error ${code}`;
      this.#leave();
    });
    this.#session.once("remoteSettings", () => {
      this.#isReady = true;
    });
    this.#session.once("close", () => {
      clearInterval(this.#timer);
      this.#leave();
    });
    this.#timer = setInterval(() => this.#check(), CHECK_MS).unref();
  }

  /** Calls that are open. */
  get callCount(): number {
    return this.#callCount;
  }

  /** Whether new calls may be started. */
  get isOpen(): boolean {
    return !this.#isLeaving && !this.#session.closed && !this.#session.destroyed;
  }

  /**
   * What is read now was sent at most so many ms ago: since a connection keeps the order of what the server sends, it was sent after the last ping
   * whose answer has come, however slow the way is, and however long this process stood still. Grows without end unless `measuresDelay` was asked for.
   */
  get delayMs(): number {
    return performance.now() - this.#answeredMs;
  }

  /** Whether the server has greeted us in HTTP/2: until then it may be a server of something else. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** Resolves at the server's greeting; rejects when the connection is lost before. */
  ready(): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#isReady) resolve();
      else if (this.#session.destroyed) reject(new Error(this.#whyLost));
      else {
        this.#session.once("remoteSettings", () => resolve());
        this.#session.once("close", () => reject(new Error(this.#whyLost)));
      }
    });
  }

  /**
   * Starts a call; the listener hears of it in later turns of the event loop. A call that cannot be started ends with UNAVAILABLE (the
   * connection is closed) or RESOURCE_EXHAUSTED (too many are open), and is unprocessed.
   */
  start(request: CallRequest, listener: CallListener): ClientCall {
    const { sendsGzip = false, inflater } = this.#options;
    const { maxSendBytes, maxCalls } = this.#limits;
    const common = {
      isSingleResponse: request.isSingleResponse,
      bounds: this.#bounds,
      maxSendBytes,
      inflater,
      owner: this,
      nowMs: () => performance.now(),
    };
    const isFull = this.#callCount >= maxCalls;
    if (isFull || !this.isOpen) {
      const why = isFull ? `${maxCalls} calls are open on this connection already` : this.#whyLost;
      return refusedCall({ ...common, listener }, isFull ? CODES.RESOURCE_EXHAUSTED : CODES.UNAVAILABLE, why);
    }
    const head = { ...request, sendsGzip, acceptsCompressed: inflater !== undefined };
    const stream = this.#session.request(nodeHeaders(requestFields(head)), { endStream: false });
    const call = new ClientCall({ ...common, listener, port: new ClientCallStream(stream), timeoutMs: request.timeoutMs });
    this.#callCount += 1;
    this.#listen(stream, call);
    return call;
  }

  /** Takes no new calls; closes when the open ones are over. */
  close(): void {
    this.#leave();
    if (!this.#session.destroyed) this.#session.close();
  }

  /** Starts no calls from now on, and closes when this turn is over; open calls end with UNAVAILABLE. */
  destroy(): void {
    this.#leave();
    this.#session.destroy();
    setImmediate(() => this.#socket.destroy());
  }

  /** The process may end while the connection is open. */
  unref(): void {
    this.#session.unref();
  }

  #listen(stream: ClientHttp2Stream, call: ClientCall): void {
    stream.on("response", (headers: IncomingHttpHeaders, flags: number, fields?: readonly string[]) =>
      call.response(headers, fields ?? [], (flags & END_STREAM) !== 0),
    );
    stream.on("trailers", (headers: IncomingHttpHeaders, _flags: number, fields?: readonly string[]) =>
      call.trailersCame(headers, fields ?? []),
    );
    stream.on("data", (chunk: Uint8Array) => call.data(chunk));
    stream.on("end", () => {
      if (!isReset(stream)) call.responseEnded();
    });
    stream.on("error", () => {}); // "close" follows.
    stream.on("close", () => {
      this.#callCount -= 1;
      const isUnprocessed = stream.id === undefined || stream.id > this.#lastStreamId;
      const isLost = this.#session.destroyed || this.#socket.destroyed || isUnprocessed;
      call.closed({ http2Code: stream.rstCode ?? 0, connectionLost: isLost ? this.#whyLost : undefined, isUnprocessed });
    });
  }

  #leave(): void {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    this.#options.onLeaving?.();
  }

  #measure(): void {
    const sentMs = performance.now();
    // Beyond ten that are not answered Node sends no more, and says so here.
    this.#session.ping((error) => {
      if (error === null) this.#answeredMs = sentMs;
    });
  }

  #check(): void {
    if (this.#callCount === 0 || this.#session.destroyed) return;
    if (this.#options.measuresDelay === true) this.#measure();
    const times = { nowMs: stallAwareNowMs(), dueMs: stallAwareDueMs(), bytesRead: this.#socket.bytesRead };
    switch (this.#keepalive.check(times)) {
      case "ping":
        this.#session.ping(() => {}); // Whatever is read, its answer among it, shows that the server lives.
        return;
      case "dead":
        this.#whyLost = "the server does not answer pings";
        this.destroy();
        return;
      case undefined:
        return;
    }
  }
}

const ABORTED = AbortSignal.abort();

class ClientCallStream extends Http2StreamPort<ClientHttp2Stream> {
  /**
   * A stream that Node closes while our direction is open ends that direction first (END_STREAM), so that the server takes a request that was
   * given up for a whole one. A stream that is aborted is only reset, with CANCEL.
   */
  override reset(http2Code: number): void {
    if (http2Code === HTTP2_ERROR.CANCEL && !this.isGone) addAbortSignal(ABORTED, this.stream);
    else super.reset(http2Code);
  }
}

function startSession(socket: ByteTransport, { authority, scheme }: ConnectionOptions, limits: ClientLimits): ClientHttp2Session {
  const { connectionWindowBytes, streamWindowBytes, maxHeaderListBytes } = limits;
  const options = {
    createConnection: () => socket,
    maxSessionMemory: limits.maxSessionMemoryMiB,
    maxHeaderListPairs: limits.maxHeaderPairs,
    // A name that HTTP wants once may be an application's metadata, which may repeat. Node's types know it of servers only.
    strictSingleValueFields: false,
    settings: { enablePush: false, initialWindowSize: streamWindowBytes, maxConcurrentStreams: 0, maxHeaderListSize: maxHeaderListBytes },
  };
  const session = connectHttp2(`${scheme}://${authority}`, options);
  endInNextTurn(session);
  session.on("stream", (stream) => stream.close()); // Servers push nothing here.
  if (connectionWindowBytes > DEFAULT_WINDOW_BYTES) session.once("connect", () => session.setLocalWindowSize(connectionWindowBytes));
  return session;
}

/** A call that ends as soon as its caller listens. */
function refusedCall(
  parts: Omit<ConstructorParameters<typeof ClientCall>[0], "port" | "timeoutMs">,
  code: CallResult["status"]["code"],
  why: string,
): ClientCall {
  const port = {
    isGone: true,
    write: () => true,
    end: () => {},
    reset: () => {},
    onceWritable: () => {},
    pause: () => {},
    resume: () => {},
    defer: setImmediate,
    later: () => () => {},
  };
  const call = new ClientCall({ ...parts, port, timeoutMs: undefined });
  assert(code !== CODES.OK, "a refused call ends with an error");
  setImmediate(() => call.refuse({ code, message: why }));
  return call;
}
