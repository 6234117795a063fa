/**
 * The client side of one call: a state machine that decides, for every kind of method, which events are allowed in which order and with
 * which status the call ends. This module does not perform I/O: the shell reports the events of the HTTP/2 stream, and passes the stream as a port.
 * Sources: gRPC over HTTP/2; statuscodes.md for wrong numbers of messages; http-grpc-status-mapping.md for responses without a status.
 */
import { CODES, WaymarkError } from "../../lib/errors.ts";
import type { StreamPort, WriteCallback } from "../wire/message-reader.ts";
import { type AssemblyBounds, framedWithin, type Inflater, MessageReader, type MessageSink } from "../wire/message-reader.ts";
import { GrpcMetadata, type HeaderBlock, metadataOf } from "../wire/metadata.ts";
import { type CallTarget, encodingOf, isGrpcType } from "../wire/request-head.ts";
import { codeOfHttpStatus, codeOfReset, type GrpcStatus, HTTP2_ERROR, type StatusCode, statusIn } from "../wire/status.ts";

/** A call to start. */
export interface CallRequest extends CallTarget {
  /** Whether the method returns exactly one response message. */
  readonly isSingleResponse: boolean;
}

/** How a call ended. */
export interface CallResult {
  readonly status: GrpcStatus;
  readonly trailers: GrpcMetadata;
  /** True if the server sent the status. False if the client determined it (deadline, lost connection, invalid response). */
  readonly isFromServer: boolean;
  /** Whether the server did not process the call, so that it can be retried even if the method is not idempotent (RFC 9113, section 8.7). */
  readonly isUnprocessed: boolean;
  /** Whether the response was not valid gRPC or a message exceeded its limit. False if a proxy reported that the server is unreachable. */
  readonly isMalformed: boolean;
}

/** Receives the events of a call. */
export interface CallListener {
  /** Receives the metadata that precedes the first message. Not called if the response consists only of a status. */
  metadata?(metadata: GrpcMetadata): void;
  /**
   * Receives one message. If the method returns exactly one message, this is called immediately before `closed`, and only if the call ended with OK.
   */
  message(bytes: Uint8Array): void;
  /** Called exactly once, as the last event, when the call has ended. */
  closed(result: CallResult): void;
}

/** Describes how a stream without a status ended. */
export interface StreamClose {
  readonly http2Code: number;
  /** How the connection was lost, as text for people. Undefined if only the stream was reset. */
  readonly connectionLost: string | undefined;
  /** The server reported that it did not process this stream (GOAWAY), or the stream was never sent. */
  readonly isUnprocessed: boolean;
}

export interface ClientCallParts {
  /** Whether the method returns exactly one response message. */
  readonly isSingleResponse: boolean;
  readonly port: StreamPort;
  readonly listener: CallListener;
  readonly bounds: AssemblyBounds;
  readonly maxSendBytes: number;
  /** Undefined if compressed responses are rejected. */
  readonly inflater: Inflater | undefined;
  /** Ms until the deadline. Undefined if the call has no deadline. */
  readonly timeoutMs: number | undefined;
  /** Monotonic ms. */
  nowMs(): number;
  /** The connection that the call uses. The cost of inflating is charged to it. */
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
  /** The message of a method that returns exactly one message, until the status is known. */
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

  /** Whether the call has ended, including by cancellation. */
  get isOver(): boolean {
    return this.#state === "over";
  }

  /**
   * Writes one message. `taken` is called when HTTP/2 has accepted the message. Returns false if the caller should wait for `onceWritable`. Throws
   * `quota_exceeded` if the message exceeds the limit. Does nothing if the call is over or half-closed.
   */
  write(message: Uint8Array, taken?: WriteCallback): boolean {
    return this.#isClosedForWriting() || this.#parts.port.write(framedWithin(message, this.#parts.maxSendBytes), taken);
  }

  /** Like `write`, for a message that already has its prefix (`framed`), so that several calls can share it. */
  writeFrame(frame: Uint8Array, taken?: WriteCallback): boolean {
    return this.#isClosedForWriting() || this.#parts.port.write(frame, taken);
  }

  /** Calls `goOn` when the stream is writable again. `goOn` is not called if the stream closes first. */
  onceWritable(goOn: () => void): void {
    if (!this.#isClosedForWriting()) this.#parts.port.onceWritable(goOn);
  }

  /**
   * Ends the request, optionally with a last message. If that message exceeds the limit, the call immediately ends with RESOURCE_EXHAUSTED.
   */
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

  /** Stops delivering messages until `resume`. */
  pause(): void {
    this.#reader.pause();
  }

  /** Delivers messages again. */
  resume(): void {
    this.#reader.resume();
  }

  /** Ends the call with CANCELLED and resets the stream. */
  cancel(why = "the caller cancelled the call"): void {
    this.#abort(CODES.CANCELLED, why);
  }

  /** Called by the shell when the response headers arrive. `isEnd` is true if nothing follows the headers (Trailers-Only). */
  response(headers: HeaderBlock, fields: readonly string[], isEnd: boolean): void {
    if (this.isOver) return;
    this.#headers = headers;
    this.#headerFields = fields;
    if (isEnd) {
      this.#trailers = headers;
      this.#trailerFields = fields;
    }
    const fault = isEnd && headers["grpc-status"] !== undefined ? undefined : this.#wrongHead(headers);
    if (fault !== undefined) this.#abort(fault.code, fault.message, fault.code !== CODES.UNAVAILABLE);
    else if (!isEnd) this.#reportMetadata(fields);
  }

  /** Called by the shell when a chunk of the response arrives. */
  data(chunk: Uint8Array): void {
    if (this.isOver) return;
    this.#hasData = true;
    this.#reader.push(chunk);
  }

  /** Called by the shell when the trailers arrive. `responseEnded` is called after all earlier data has been delivered. */
  trailersCame(headers: HeaderBlock, fields: readonly string[]): void {
    this.#trailers = headers;
    this.#trailerFields = fields;
  }

  /** Called by the shell when the server ends its sending direction. */
  responseEnded(): void {
    if (this.isOver) return;
    this.#isEndedByServer = true;
    this.#reader.end();
  }

  /** Called by the shell when the stream closes. */
  closed(why: StreamClose): void {
    if (this.isOver || this.#isEndedByServer) return; // The reader still delivers the remaining messages, followed by the status.
    const sentStatus = this.#trailers === undefined ? undefined : statusIn(this.#trailers);
    if (sentStatus !== undefined && sentStatus.code !== CODES.OK) {
      // The stream was reset right after its trailers. In this case, OK is not accepted, because messages may have been lost.
      this.#finish(sentStatus, { isFromServer: true });
      return;
    }
    const { connectionLost, http2Code, isUnprocessed } = why;
    if (http2Code === HTTP2_ERROR.CANCEL && this.#parts.nowMs() >= this.#deadlineMonoMs) {
      this.#expire(); // The server also enforces the deadline, and its timer fired before this client's timer.
      return;
    }
    const code = connectionLost === undefined ? codeOfReset(http2Code) : CODES.UNAVAILABLE;
    const message = connectionLost ?? `the server reset the stream with HTTP/2 error ${http2Code}`;
    this.#finish({ code, message }, { isUnprocessed: isUnprocessed || http2Code === HTTP2_ERROR.REFUSED_STREAM });
  }

  /** Called by the shell when the call was never sent. */
  refuse(status: GrpcStatus): void {
    if (!this.isOver) this.#finish(status, { isUnprocessed: true });
  }

  /** Called by the reader for each message. */
  message(bytes: Uint8Array): void {
    if (!this.#parts.isSingleResponse) this.#parts.listener.message(bytes);
    else if (this.#answer === undefined) {
      // The bytes are kept after the memory charged for inflating them is released. No copy is needed, because nothing writes into them.
      this.#answer = bytes;
    } else this.#abort(CODES.UNIMPLEMENTED, "the server sent more than one response message, but this method returns exactly one");
  }

  /** Called by the reader after the last message. */
  ended(): void {
    const status = this.#endStatus();
    if (status.code !== CODES.OK || !this.#parts.isSingleResponse) {
      this.#finish(status, { isFromServer: true });
      return;
    }
    const answer = this.#answer;
    if (answer === undefined) {
      this.#finish({ code: CODES.UNIMPLEMENTED, message: "the server ended the call with OK but sent no response message" }, {});
      return;
    }
    this.#parts.listener.message(answer);
    this.#finish(status, { isFromServer: true });
  }

  /** Called by the reader when the received bytes are not a valid message. */
  failed(error: WaymarkError): void {
    const code = error.reason === "quota_exceeded" ? CODES.RESOURCE_EXHAUSTED : CODES.INTERNAL;
    this.#abort(code, error.message, true);
  }

  #isClosedForWriting(): boolean {
    return this.isOver || this.#isHalfClosed;
  }

  /** Returns the error in response headers that do not contain a status. Returns undefined if the headers are valid. */
  #wrongHead(headers: HeaderBlock): { readonly code: StatusCode; readonly message: string } | undefined {
    const httpStatus = Number(headers[":status"]);
    const contentType = String(headers["content-type"] ?? "");
    if (httpStatus !== 200)
      return { code: codeOfHttpStatus(httpStatus), message: `the server returned HTTP status ${httpStatus} instead of a gRPC response` };
    if (!/^application\/grpc(?:[+;]|$)/i.test(contentType))
      return {
        code: CODES.UNKNOWN,
        message: `unexpected content-type "${contentType.slice(0, 64)}" in the response: expected application/grpc`,
      };
    if (!isGrpcType(contentType))
      return {
        code: CODES.INTERNAL,
        message: `unsupported content-type "${contentType.slice(0, 64)}" in the response: expected protobuf messages`,
      };
    const named = headers["grpc-encoding"];
    const encoding = encodingOf(typeof named === "string" ? named : undefined);
    if (encoding === "unknown" || (encoding !== undefined && this.#parts.inflater === undefined))
      return {
        code: CODES.INTERNAL,
        message: `the response uses grpc-encoding "${String(named).slice(0, 64)}", which the request did not accept`,
      };
    if (encoding !== undefined) this.#reader.useEncoding(encoding);
    return undefined;
  }

  #reportMetadata(fields: readonly string[]): void {
    const { listener } = this.#parts;
    if (listener.metadata === undefined) return;
    const metadata = readMetadata(fields);
    if (metadata instanceof WaymarkError) this.#abort(CODES.INTERNAL, metadata.message, true);
    else listener.metadata(metadata);
  }

  /** Returns the status with which the server ended its sending direction. */
  #endStatus(): GrpcStatus {
    if (this.#trailers !== undefined) {
      const missing: GrpcStatus = { code: CODES.UNKNOWN, message: "the response trailers have no grpc-status" };
      return statusIn(this.#trailers) ?? missing;
    }
    // Some servers send Trailers-Only and then end the stream with an empty DATA frame.
    const inHeaders = this.#hasData || this.#headers === undefined ? undefined : statusIn(this.#headers);
    if (inHeaders === undefined) return { code: CODES.INTERNAL, message: "the server ended the stream without trailers" };
    this.#trailerFields = this.#headerFields;
    return inHeaders;
  }

  #expire(): void {
    this.#abort(CODES.DEADLINE_EXCEEDED, "the deadline passed before the response arrived");
  }

  /** Ends the call on the client side and resets the stream. */
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
    // The response is complete, so the server does not need the rest of the request (RFC 9113, section 8.1).
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
