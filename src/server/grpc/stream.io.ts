/** One gRPC call's stream on node:http2: what it said on arrival, and answering it once although it may be gone. */
import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import { type DescMessage, toBinary } from "@bufbuild/protobuf";
import type { Encoding, Inflater, Inflation } from "../../grpc/wire/encoding.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { framed } from "../../lib/grpc-frames.ts";
import type { PeerCertificate } from "../../policy/identity/certificates.ts";
import type { CallContext } from "../../services/service.ts";
import { type HeaderReader, parseGrpcTimeout, sentRequestId, type UnaryExchange } from "../chain.ts";
import type { Arriving, Connection } from "../connection-guard.io.ts";
import type { RpcStatus } from "../status.ts";
import { later, type Response } from "./calls.io.ts";
import { statusTrailers } from "./message.ts";

/** Who takes what comes on a stream. */
export interface StreamHandler {
  data(chunk: Uint8Array): void;
  /** The client half-closed; nothing more comes. */
  ended(): void;
  /** The stream is over, for whatever reason; called once. */
  gone(): void;
}

const HEADERS = { ":status": 200, "content-type": "application/grpc+proto" } as const;
/** Without `date`, which gRPC has no use for and Node formats anew for each answer. */
const WITH_TRAILERS = { waitForTrailers: true, sendDate: false } as const;
const TRAILERS_ONLY = { endStream: true, sendDate: false } as const;
const OK: Readonly<Record<string, string>> = { "grpc-status": "0" };

const WIRE: unique symbol = Symbol("waymark wire");
type WiredStream = ServerHttp2Stream & { [WIRE]?: GrpcWire };

// HOT: one object and five shared listeners a call; a closure for each instead cost 1.5 µs.
export class GrpcWire implements UnaryExchange, Arriving {
  readonly transport = "grpc";
  readonly encoding = "proto";
  sinceMs: number | undefined;
  /** Set when what came with the call cannot be read (its timeout): it is refused where its handler would run. */
  readonly fault: WaymarkError | undefined;
  readonly header: HeaderReader;
  /** Of messages that say they are compressed; undefined where none may be. */
  readonly messageEncoding: Encoding | undefined;
  readonly #stream: WiredStream;
  readonly #connection: Connection;
  readonly #output: DescMessage;
  readonly #deadlineMonoMs: number | undefined;
  #handler: StreamHandler | undefined;
  #trailers = OK;
  #isRequestEnded = false;
  #pendingBytes = 0;
  readonly #inflater: Inflater;
  #inflation: Inflation | undefined;

  constructor(
    stream: ServerHttp2Stream,
    headers: IncomingHttpHeaders,
    from: { readonly connection: Connection; readonly output: DescMessage; readonly inflater: Inflater },
  ) {
    this.#stream = stream;
    this.#connection = from.connection;
    this.#output = from.output;
    this.#inflater = from.inflater;
    const encoding = headers["grpc-encoding"];
    this.messageEncoding = encoding === "gzip" || encoding === "deflate" ? encoding : undefined;
    this.header = (name) => firstOf(headers[name]);
    const timeout = firstOf(headers["grpc-timeout"]);
    if (timeout === undefined) return;
    const deadline = deadlineOf(timeout);
    if (deadline instanceof WaymarkError) this.fault = deadline;
    else this.#deadlineMonoMs = deadline;
  }

  /** Starts reading; from now on the taker hears of everything. The stream's errors are the front's to listen to. */
  listen(handler: StreamHandler): void {
    const stream = this.#stream;
    stream[WIRE] = this;
    this.#connection.opened();
    this.#connection.arriving.add(this);
    this.#handler = handler;
    stream.on("data", onData);
    stream.on("end", onEnd);
    stream.on("close", onClose);
    stream.on("wantTrailers", onWantTrailers);
  }

  /** The request is here; of a stream of requests the first is enough. */
  arrived(): void {
    this.#connection.arriving.delete(this);
  }

  giveUp(): void {
    if (!this.isGone) this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  /** Inflates a message; it is charged until the next one, the answer, or the end of the stream. */
  inflate(bytes: Uint8Array, maxMessageBytes: number): Inflation {
    this.#inflation?.release();
    // Only where an encoding was agreed does a message say so.
    this.#inflation = this.#inflater.inflate({
      encoding: this.messageEncoding ?? "gzip",
      bytes,
      owner: this.#connection,
      maxMessageBytes,
    });
    return this.#inflation;
  }

  /** What the last message was inflated to is handled. */
  releaseInflated(): void {
    this.#inflation?.release();
  }

  get address(): string {
    return this.#connection.address;
  }

  get certificate(): PeerCertificate | undefined {
    return this.#connection.certificate;
  }

  get timeoutMs(): number | undefined {
    return this.#deadlineMonoMs === undefined ? undefined : this.#deadlineMonoMs - performance.now();
  }

  /** Whether nothing can be written any more. */
  get isGone(): boolean {
    return this.#stream.destroyed || this.#stream.closed;
  }

  /** Sends the response headers; the request id is echoed to a client that sent one. */
  begin(requestId: string): void {
    this.#inflation?.release();
    if (this.isGone || this.#stream.headersSent) return;
    const isSent = sentRequestId(this.header) !== undefined;
    this.#stream.respond(isSent ? { ...HEADERS, "x-request-id": requestId } : HEADERS, WITH_TRAILERS);
  }

  /** Writes one message of a stream; `taken` hears when HTTP/2 took it. False: do not write before `onceRoomy`. */
  write(message: Response, taken?: (error?: Error | null) => void): boolean {
    if (this.isGone) return true;
    return this.#stream.write(message instanceof Uint8Array ? sharedFrame(message) : this.#frame(message), taken);
  }

  /** Calls `goOn` when the stream takes messages again, never when it went away instead. */
  onceRoomy(goOn: () => void): void {
    this.#stream.once("drain", goOn);
  }

  /** Ends the stream OK after what was written. */
  end(): void {
    if (!this.isGone) this.#stream.end();
  }

  succeed(response: Response, context: CallContext): void {
    if (this.isGone) return;
    const frame = this.#frame(response);
    this.begin(context.requestId);
    this.#pendingBytes = frame.length;
    this.#connection.meter.pendingBytes += frame.length;
    this.#stream.end(frame);
  }

  fail(status: RpcStatus, requestId: string): void {
    this.#inflation?.release();
    if (this.isGone) return;
    const trailers = statusTrailers(status, requestId);
    if (this.#stream.headersSent) {
      this.#trailers = trailers;
      this.#stream.end();
      return;
    }
    this.#stream.respond({ ...HEADERS, ...trailers }, TRAILERS_ONLY);
    this.#closeUnended();
  }

  /** Once the trailers are out: what the client still sends is not wanted. */
  #closeUnended(): void {
    if (!this.#isRequestEnded && !this.isGone) this.#stream.close(constants.NGHTTP2_NO_ERROR);
  }

  later(expire: () => void, delayMs: number): () => void {
    return later(expire, delayMs);
  }

  pause(): void {
    this.#stream.pause();
  }

  resume(): void {
    this.#stream.resume();
  }

  #frame(response: Response): Uint8Array {
    return framed(response instanceof Uint8Array ? response : toBinary(this.#output, response));
  }

  /** The listeners' way in; nobody else calls these four. */
  onData(chunk: Uint8Array): void {
    this.#connection.meter.usefulBytes += chunk.length;
    this.#handler?.data(chunk);
  }

  onEnd(): void {
    this.#isRequestEnded = true;
    this.arrived();
    this.#handler?.ended();
  }

  onClose(): void {
    this.arrived();
    this.#connection.meter.pendingBytes -= this.#pendingBytes;
    this.#pendingBytes = 0;
    this.#inflation?.release();
    this.#connection.closed();
    this.#handler?.gone();
  }

  onWantTrailers(): void {
    if (this.isGone) return;
    this.#stream.sendTrailers(this.#trailers);
    // Node sends trailers in a setImmediate of its own; a stream closed before that would be without.
    if (!this.#isRequestEnded) setImmediate(() => this.#closeUnended());
  }
}

const NOTHING: Uint8Array = new Uint8Array();
const last = { message: NOTHING, frame: NOTHING };

// HOT: bench/watch.ts; equal watches are given the same bytes one after the other, and a frame for each cost a seventh of it.
function sharedFrame(message: Uint8Array): Uint8Array {
  if (message !== last.message) {
    last.message = message;
    last.frame = framed(message);
  }
  return last.frame;
}

function onData(this: WiredStream, chunk: Uint8Array): void {
  this[WIRE]?.onData(chunk);
}

function onEnd(this: WiredStream): void {
  this[WIRE]?.onEnd();
}

function onClose(this: WiredStream): void {
  this[WIRE]?.onClose();
}

function onWantTrailers(this: WiredStream): void {
  this[WIRE]?.onWantTrailers();
}

function firstOf(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

function deadlineOf(timeout: string): number | undefined | WaymarkError {
  try {
    const timeoutMs = parseGrpcTimeout(timeout);
    return timeoutMs === undefined ? undefined : performance.now() + timeoutMs;
  } catch (thrown) {
    if (thrown instanceof WaymarkError) return thrown;
    throw thrown;
  }
}
