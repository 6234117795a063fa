/** One call's stream on node:http2: tells its `ServerCall` what comes, writes what that orders, and keeps the connection's counts. */
import type { IncomingHttpHeaders, ServerHttp2Stream } from "node:http2";
import { Http2StreamPort, isReset, nodeHeaders } from "../wire/http2-stream.io.ts";
import type { HeaderBlock } from "../wire/metadata.ts";
import { HTTP2_ERROR } from "../wire/status.ts";
import type { Arriving, Connection } from "./connection-guard.io.ts";
import type { CallPort, ServerCall } from "./server-call.ts";

/** A stream that a client opened. */
export interface Incoming {
  readonly stream: ServerHttp2Stream;
  readonly headers: IncomingHttpHeaders;
  /** Names and values in turn, as they came. */
  readonly fields: readonly string[];
  readonly connection: Connection;
}

/** Without `date`, which gRPC has no use for and Node formats anew for each answer. */
const WITH_TRAILERS = { waitForTrailers: true, sendDate: false } as const;
const TRAILERS_ONLY = { endStream: true, sendDate: false } as const;

const CALL: unique symbol = Symbol("waymark call");
type CallStream = ServerHttp2Stream & { [CALL]?: IncomingCall };

// HOT: one object and four shared listeners a call; a closure for each instead cost 1.5 µs.
export class IncomingCall extends Http2StreamPort<ServerHttp2Stream> implements CallPort, Arriving {
  sinceMs: number | undefined;
  readonly #connection: Connection;
  readonly #isLasting: boolean;
  #call: ServerCall | undefined;
  #pendingBytes = 0;

  /** `isLasting` for streams, which make room for as many more. */
  constructor({ stream, connection }: Incoming, isLasting: boolean) {
    super(stream);
    this.#connection = connection;
    this.#isLasting = isLasting;
  }

  /** Starts reading; from now on the call hears of everything. The stream's errors are the server's to listen to. */
  listen(call: ServerCall): void {
    const stream: CallStream = this.stream;
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

function onData(this: CallStream, chunk: Uint8Array): void {
  this[CALL]?.onData(chunk);
}

function onEnd(this: CallStream): void {
  this[CALL]?.onEnd();
}

function onClose(this: CallStream): void {
  this[CALL]?.onClose();
}

function onWantTrailers(this: CallStream): void {
  this[CALL]?.onWantTrailers();
}
