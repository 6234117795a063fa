/**
 * A client's connection to one server on node:http2. It starts calls, enforces their limits, sends keepalive pings, and reports when the server
 * closes the connection (GOAWAY). The rules of a call are in client-call.ts.
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

/** Limits of a connection. Field names contain the unit. */
export interface ClientLimits extends KeepaliveLimits {
  /** Maximum size of a response message, before and after inflation. */
  readonly maxReceiveBytes: number;
  readonly maxSendBytes: number;
  /** Maximum bytes of incomplete response messages, over all calls on the connection. */
  readonly maxBufferedBytes: number;
  /** Maximum number of open calls. Further calls end with RESOURCE_EXHAUSTED. */
  readonly maxCalls: number;
  readonly maxSessionMemoryMiB: number;
  readonly maxHeaderPairs: number;
  readonly maxHeaderListBytes: number;
  /** Initial flow-control window of a stream: the number of bytes that the server can send before the client has read them. */
  readonly streamWindowBytes: number;
  /** The flow-control window shared by all streams. */
  readonly connectionWindowBytes: number;
}

export interface ConnectionOptions {
  /** Host and port of the server as known to the caller, sent as `:authority`. */
  readonly authority: string;
  readonly scheme: "http" | "https";
  readonly limits: ClientLimits;
  /** Limits on incomplete response messages, shared by several connections. They replace the corresponding limits in `limits`. */
  readonly bounds?: AssemblyBounds | undefined;
  /** Inflates compressed responses. If absent, requests do not accept compressed responses. */
  readonly inflater?: Inflater | undefined;
  /** Whether requests declare gzip as their encoding. Frames passed to `writeFrame` can be compressed only if this is set. */
  readonly sendsGzip?: boolean | undefined;
  /** Called once when the connection stops accepting calls because the server sent GOAWAY or the connection was lost. */
  readonly onLeaving?: (() => void) | undefined;
  /** Pings the server a few times per second while calls are open, to measure `delayMs`. */
  readonly measuresDelay?: boolean | undefined;
}

/** The byte stream below HTTP/2: a socket, or a wrapper around one. */
export interface ByteTransport extends Duplex {
  /** Bytes received so far. */
  readonly bytesRead: number;
}

/** Why a connection was lost if there is no other reason. */
export const CONNECTION_LOST = "the connection was lost";
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
  #whyLost = CONNECTION_LOST;
  #lastStreamId = Number.POSITIVE_INFINITY;
  /**
   * The time at which the last answered ping was sent. Initially, this is the start of the connection, because nothing can have been sent before
   * that.
   */
  #answeredMs = performance.now();

  /** Starts HTTP/2 on a connected socket, after the TLS handshake if there is one. The connection owns the socket from now on. */
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
      this.#whyLost = `${CONNECTION_LOST}: ${error.message}`;
    }); // "close" follows and ends each stream.
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

  /** Number of open calls. */
  get callCount(): number {
    return this.#callCount;
  }

  /** Whether new calls may be started. */
  get isOpen(): boolean {
    return !this.#isLeaving && !this.#session.closed && !this.#session.destroyed;
  }

  /**
   * Upper bound on the age of the data that is currently being read, in ms. Data arrives in the order in which the server sent it, so this data was
   * sent after the last ping whose answer has arrived. This is true even if the network is slow or this process was paused. Without `measuresDelay`,
   * the value grows without limit.
   */
  get delayMs(): number {
    return performance.now() - this.#answeredMs;
  }

  /** Whether the server has sent its HTTP/2 SETTINGS. Until then, the server may turn out to use another protocol. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** Resolves when the server's SETTINGS arrive. Rejects if the connection is lost before they arrive. */
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
   * Starts a call. The listener is called only in later turns of the event loop. A call that cannot be started ends with UNAVAILABLE if the
   * connection is closed, or RESOURCE_EXHAUSTED if too many calls are open. Such a call is marked as unprocessed.
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
      const why = isFull ? `the connection already has ${maxCalls} open calls, which is the limit` : this.#whyLost;
      return refusedCall({ ...common, listener }, isFull ? CODES.RESOURCE_EXHAUSTED : CODES.UNAVAILABLE, why);
    }
    const head = { ...request, sendsGzip, acceptsCompressed: inflater !== undefined };
    const stream = this.#session.request(nodeHeaders(requestFields(head)), { endStream: false });
    const call = new ClientCall({ ...common, listener, port: new ClientCallStream(stream), timeoutMs: request.timeoutMs });
    this.#callCount += 1;
    this.#listen(stream, call);
    return call;
  }

  /** Rejects new calls, and closes the connection when the open calls have ended. */
  close(): void {
    this.#leave();
    if (!this.#session.destroyed) this.#session.close();
  }

  /** Rejects new calls, and closes the connection at the end of this event loop turn. Open calls end with UNAVAILABLE. */
  destroy(): void {
    this.#leave();
    this.#session.destroy();
    setImmediate(() => this.#socket.destroy());
  }

  /** Allows the process to exit while the connection is open. */
  unref(): void {
    this.#session.unref();
  }

  /** Keeps the process running while the connection is open. */
  ref(): void {
    this.#session.ref();
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
    // While ten pings are unanswered, Node.js does not send any more pings, and passes an error to this callback.
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
        this.#session.ping(() => {}); // Any received byte, including the ping's answer, proves that the server is alive.
        return;
      case "dead":
        this.#whyLost = "the server did not answer keepalive pings";
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
   * If Node.js closes a stream whose sending direction is open, it first sends END_STREAM, so the server would treat a cancelled request as complete.
   * An aborted stream is only reset, with CANCEL.
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
    // Application metadata may repeat a field that HTTP allows once. The Node.js type definitions have this option only for servers.
    strictSingleValueFields: false,
    settings: { enablePush: false, initialWindowSize: streamWindowBytes, maxConcurrentStreams: 0, maxHeaderListSize: maxHeaderListBytes },
  };
  const session = connectHttp2(`${scheme}://${authority}`, options);
  endInNextTurn(session);
  session.on("stream", (stream) => stream.close()); // Server push is not supported.
  if (connectionWindowBytes > DEFAULT_WINDOW_BYTES) session.once("connect", () => session.setLocalWindowSize(connectionWindowBytes));
  return session;
}

/** Returns a call that ends in the next event loop turn. */
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
  assert(code !== CODES.OK, "a refused call has the status OK");
  setImmediate(() => call.refuse({ code, message: why }));
  return call;
}
