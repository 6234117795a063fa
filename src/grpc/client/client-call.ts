/**
 * The client's half of one call: what may come and go when, whatever the kind of its method, and which status it ends with. It does no I/O
 * itself: the shell tells it what comes on the HTTP/2 stream, and gives it the stream as a port. Rules: gRPC over HTTP/2; for wrong
 * numbers of messages its statuscodes.md; for answers without a status its http-grpc-status-mapping.md.
 */
import { CODES, WaymarkError } from "../../lib/errors.ts";
import type { StreamPort, WriteCallback } from "../wire/message-reader.ts";
import { type AssemblyBounds, framedWithin, type Inflater, MessageReader, type MessageSink } from "../wire/message-reader.ts";
import { GrpcMetadata, type HeaderBlock, metadataOf } from "../wire/metadata.ts";
import { type CallTarget, encodingOf, isGrpcType } from "../wire/request-head.ts";
import { codeOfHttpStatus, codeOfReset, type GrpcStatus, HTTP2_ERROR, type StatusCode, statusIn } from "../wire/status.ts";

/** A call to be made. */
export interface CallRequest extends CallTarget {
  /** Whether the method has one answer. */
  readonly isSingleResponse: boolean;
}

/** How a call ended. */
export interface CallResult {
  readonly status: GrpcStatus;
  readonly trailers: GrpcMetadata;
  /** Whether the server said the status itself; otherwise it was found here (deadline, lost connection, wrong answer). */
  readonly isFromServer: boolean;
  /** The server did not begin the call, so that it may be made again elsewhere whatever it does (RFC 9113, section 8.7). */
  readonly isUnprocessed: boolean;
  /** What came is no answer of gRPC, or a message over its bound. That a proxy answered that the server is away is not counted. */
  readonly isMalformed: boolean;
}

/** Who hears of a call. */
export interface CallListener {
  /** The metadata that came before the first message. Not called when the answer is a status alone. */
  metadata?(metadata: GrpcMetadata): void;
  /** One message. Of a method with one answer it is given when the call ended with OK, right before `closed`. */
  message(bytes: Uint8Array): void;
  /** The call is over. Called once, last. */
  closed(result: CallResult): void;
}

/** How a stream ended that carried no status. */
export interface StreamClose {
  readonly http2Code: number;
  /** What happened to the connection, for people; undefined when only the stream was reset. */
  readonly connectionLost: string | undefined;
  /** The server said that it did not look at this stream (GOAWAY), or it was never sent. */
  readonly isUnprocessed: boolean;
}

export interface ClientCallParts {
  /** Whether the method has one answer. */
  readonly isSingleResponse: boolean;
  readonly port: StreamPort;
  readonly listener: CallListener;
  readonly bounds: AssemblyBounds;
  readonly maxSendBytes: number;
  /** Absent where compressed answers are refused. */
  readonly inflater: Inflater | undefined;
  /** Ms until the deadline; undefined without one. */
  readonly timeoutMs: number | undefined;
  /** Monotonic ms. */
  nowMs(): number;
  /** The connection, to which inflating is charged. */
  readonly owner: object;
}

const NO_METADATA = new GrpcMetadata();

export class ClientCall implements MessageSink {
  readonly #parts: ClientCallParts;
  readonly #reader: MessageReader;
  #state: "open" | "over" = "open";
  #isHalfClosed = false;
  #isEndedByServer = false;
  #headers: HeaderBlock | undefined;
  #headerFields: readonly string[] = [];
  #trailers: HeaderBlock | undefined;
  #trailerFields: readonly string[] = [];
  #hasData = false;
  /** The answer of a method with one, until its status is known. */
  #answer: Uint8Array | undefined;
  readonly #deadlineMonoMs: number;
  readonly #cancelDeadline: (() => void) | undefined;

  constructor(parts: ClientCallParts) {
    const { bounds, inflater, owner, port, timeoutMs } = parts;
    this.#parts = parts;
    this.#reader = new MessageReader({ bounds, inflater, owner, port }, this);
    this.#deadlineMonoMs = timeoutMs === undefined ? Number.POSITIVE_INFINITY : parts.nowMs() + timeoutMs;
    if (timeoutMs !== undefined) this.#cancelDeadline = port.later(() => this.#expire(), timeoutMs);
  }

  /** Whether the call has ended, or was cancelled. */
  get isOver(): boolean {
    return this.#state === "over";
  }

  /**
   * Writes one message; `taken` is called when HTTP/2 took it. False when the caller should wait for `onceWritable`. Throws
   * `quota_exceeded` for a message over the bound. A call that is over takes no more: nothing happens.
   */
  write(message: Uint8Array, taken?: WriteCallback): boolean {
    return this.#isClosedForWriting() || this.#parts.port.write(framedWithin(message, this.#parts.maxSendBytes), taken);
  }

  /** As `write`, of a message that has its prefix already (`framed`), so that several calls may share it. */
  writeFrame(frame: Uint8Array, taken?: WriteCallback): boolean {
    return this.#isClosedForWriting() || this.#parts.port.write(frame, taken);
  }

  /** Calls `goOn` when the stream takes messages again, never when it went away instead. */
  onceWritable(goOn: () => void): void {
    if (!this.#isClosedForWriting()) this.#parts.port.onceWritable(goOn);
  }

  /** No more messages are sent, but for this one. When it is over the bound, the call ends with RESOURCE_EXHAUSTED at once. */
  halfClose(message?: Uint8Array): void {
    if (this.#isClosedForWriting()) return;
    const { port, maxSendBytes } = this.#parts;
    try {
      port.end(message === undefined ? undefined : framedWithin(message, maxSendBytes));
      this.#isHalfClosed = true;
    } catch (thrown) {
      if (!(thrown instanceof WaymarkError)) throw thrown;
      this.#abort(CODES.RESOURCE_EXHAUSTED, thrown.message);
    }
  }

  /** Takes no messages for now. */
  pause(): void {
    this.#reader.pause();
  }

  /** Takes messages again. */
  resume(): void {
    this.#reader.resume();
  }

  /** Ends the call with CANCELLED; the server is told. */
  cancel(why = "the caller cancelled the call"): void {
    this.#abort(CODES.CANCELLED, why);
  }

  /** The shell: the response headers came. `isEnd` when they are all there is (Trailers-Only). */
  response(headers: HeaderBlock, fields: readonly string[], isEnd: boolean): void {
    if (this.isOver) return;
    this.#headers = headers;
    this.#headerFields = fields;
    if (isEnd) {
      this.#trailers = headers;
      this.#trailerFields = fields;
    }
    const wrong = isEnd && headers["grpc-status"] !== undefined ? undefined : this.#wrongHead(headers);
    if (wrong !== undefined) this.#abort(wrong.code, wrong.message, wrong.code !== CODES.UNAVAILABLE);
    else if (!isEnd) this.#tellMetadata(fields);
  }

  /** The shell: a chunk of the response came. */
  data(chunk: Uint8Array): void {
    if (this.isOver) return;
    this.#hasData = true;
    this.#reader.push(chunk);
  }

  /** The shell: the trailers came; `responseEnded` follows when all data before them was given. */
  trailersCame(headers: HeaderBlock, fields: readonly string[]): void {
    this.#trailers = headers;
    this.#trailerFields = fields;
  }

  /** The shell: the server ended its direction. */
  responseEnded(): void {
    if (this.isOver) return;
    this.#isEndedByServer = true;
    this.#reader.end();
  }

  /** The shell: the stream is over. */
  closed(why: StreamClose): void {
    if (this.isOver || this.#isEndedByServer) return; // The reader still gives the messages of the server, and then its status.
    const said = this.#trailers === undefined ? undefined : statusIn(this.#trailers);
    if (said !== undefined && said.code !== CODES.OK) {
      this.#finish(said, { isFromServer: true }); // Reset right after its trailers; with OK messages may be lost.
      return;
    }
    const { connectionLost, http2Code, isUnprocessed } = why;
    if (http2Code === HTTP2_ERROR.CANCEL && this.#parts.nowMs() >= this.#deadlineMonoMs) {
      this.#expire(); // The server keeps the deadline too, and its timer was faster than ours.
      return;
    }
    const code = connectionLost === undefined ? codeOfReset(http2Code) : CODES.UNAVAILABLE;
    const message = connectionLost ?? `the server reset the stream with HTTP/2 error ${http2Code}`;
    this.#finish({ code, message }, { isUnprocessed: isUnprocessed || http2Code === HTTP2_ERROR.REFUSED_STREAM });
  }

  /** The shell: the call was never sent. */
  refuse(status: GrpcStatus): void {
    if (!this.isOver) this.#finish(status, { isUnprocessed: true });
  }

  /** The reader: one message. */
  message(bytes: Uint8Array): void {
    if (!this.#parts.isSingleResponse) this.#parts.listener.message(bytes);
    else if (this.#answer === undefined) {
      // It is kept after its inflation is released. No copy is needed, because nothing writes into these bytes.
      this.#answer = bytes;
    } else this.#abort(CODES.UNIMPLEMENTED, "the server sent more than one answer to a call that has one");
  }

  /** The reader: all messages were given. */
  ended(): void {
    const status = this.#endStatus();
    if (status.code !== CODES.OK || !this.#parts.isSingleResponse) {
      this.#finish(status, { isFromServer: true });
      return;
    }
    const answer = this.#answer;
    if (answer === undefined) {
      this.#finish({ code: CODES.UNIMPLEMENTED, message: "the server ended the call with OK, but without its answer" }, {});
      return;
    }
    this.#parts.listener.message(answer);
    this.#finish(status, { isFromServer: true });
  }

  /** The reader: what came is no message that may come. */
  failed(error: WaymarkError): void {
    const code = error.reason === "quota_exceeded" ? CODES.RESOURCE_EXHAUSTED : CODES.INTERNAL;
    this.#abort(code, error.message, true);
  }

  #isClosedForWriting(): boolean {
    return this.isOver || this.#isHalfClosed;
  }

  /** What is wrong with headers of an answer that has no status in them. */
  #wrongHead(headers: HeaderBlock): { readonly code: StatusCode; readonly message: string } | undefined {
    const httpStatus = Number(headers[":status"]);
    const contentType = String(headers["content-type"] ?? "");
    if (httpStatus !== 200) return { code: codeOfHttpStatus(httpStatus), message: `the server answered with HTTP status ${httpStatus}` };
    if (!/^application\/grpc(?:[+;]|$)/i.test(contentType))
      return { code: CODES.UNKNOWN, message: `the answer is of type "${contentType.slice(0, 64)}", not of gRPC` };
    if (!isGrpcType(contentType))
      return { code: CODES.INTERNAL, message: `the answer's messages are of type "${contentType.slice(0, 64)}", not in protobuf` };
    const named = headers["grpc-encoding"];
    const encoding = encodingOf(typeof named === "string" ? named : undefined);
    if (encoding === "unknown" || (encoding !== undefined && this.#parts.inflater === undefined))
      return { code: CODES.INTERNAL, message: `the answer is in grpc-encoding ${String(named).slice(0, 64)}, which was not asked for` };
    if (encoding !== undefined) this.#reader.useEncoding(encoding);
    return undefined;
  }

  #tellMetadata(fields: readonly string[]): void {
    const { listener } = this.#parts;
    if (listener.metadata === undefined) return;
    const metadata = readMetadata(fields);
    if (metadata instanceof WaymarkError) this.#abort(CODES.INTERNAL, metadata.message, true);
    else listener.metadata(metadata);
  }

  /** The status that the server ended its direction with. */
  #endStatus(): GrpcStatus {
    if (this.#trailers !== undefined) {
      const missing: GrpcStatus = { code: CODES.UNKNOWN, message: "the server's trailers have no grpc-status" };
      return statusIn(this.#trailers) ?? missing;
    }
    // Trailers-Only of servers that end the stream by an empty DATA frame.
    const inHeaders = this.#hasData || this.#headers === undefined ? undefined : statusIn(this.#headers);
    if (inHeaders === undefined) return { code: CODES.INTERNAL, message: "the server ended the stream without trailers" };
    this.#trailerFields = this.#headerFields;
    return inHeaders;
  }

  #expire(): void {
    this.#abort(CODES.DEADLINE_EXCEEDED, "the deadline passed before the answer came");
  }

  /** Ends the call from here; the server is told by a reset. */
  #abort(code: StatusCode, message: string, isMalformed = false): void {
    if (this.isOver) return;
    this.#finish({ code, message }, { isMalformed });
    this.#parts.port.reset(HTTP2_ERROR.CANCEL);
  }

  #finish(status: GrpcStatus, how: Partial<CallResult>): void {
    this.#state = "over";
    this.#cancelDeadline?.();
    this.#reader.drop();
    const metadata = readMetadata(this.#trailerFields);
    const trailers = metadata instanceof WaymarkError ? NO_METADATA : metadata;
    const { isFromServer = false, isUnprocessed = false, isMalformed = false } = how;
    // The server said all it says: what we still might send is not wanted (RFC 9113, section 8.1).
    if (this.#isEndedByServer && !this.#isHalfClosed) this.#parts.port.reset(HTTP2_ERROR.NO_ERROR);
    this.#parts.listener.closed({ status, trailers, isFromServer, isUnprocessed, isMalformed });
  }
}

function readMetadata(fields: readonly string[]): GrpcMetadata | WaymarkError {
  try {
    return fields.length === 0 ? NO_METADATA : metadataOf(fields);
  } catch (thrown) {
    if (thrown instanceof WaymarkError) return thrown;
    throw thrown;
  }
}
