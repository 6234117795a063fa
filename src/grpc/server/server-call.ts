/**
 * The server side of one call: a state machine that decides which events are allowed in which order, for every kind of method. This module does not
 * perform I/O: the shell reports the events of the HTTP/2 stream, and passes the stream as a port. Sources: gRPC over HTTP/2; statuscodes.md for
 * wrong numbers of messages.
 */
import { assert, WaymarkError } from "../../lib/errors.ts";
import type { StreamPort, WriteCallback } from "../wire/message-reader.ts";
import { type AssemblyBounds, apart, framedWithin, type Inflater, MessageReader, type MessageSink } from "../wire/message-reader.ts";
import { addFields, type GrpcMetadata, type HeaderBlock, metadataOf } from "../wire/metadata.ts";
import { type CallHead, expired, fieldOf } from "../wire/request-head.ts";
import { type GrpcStatus, HTTP2_ERROR, OK, statusFields } from "../wire/status.ts";
import type { Cancellation, GrpcMethod, MethodCall, RequestReceiver } from "./method.ts";

/** Parts that all calls of a server share. */
export interface CallEnvironment {
  readonly bounds: AssemblyBounds;
  /** Maximum size of a sent message, in bytes. */
  readonly maxSendBytes: number;
  /** Undefined if compressed requests are rejected. */
  readonly inflater: Inflater | undefined;
  /** Returns the status for a thrown value. Must not throw. */
  statusOf(thrown: unknown, call: MethodCall): GrpcStatus;
  /** Monotonic ms. */
  nowMs(): number;
}

/** The stream of a call, with the events for the server's own bookkeeping. */
export interface CallPort extends StreamPort {
  /**
   * Sends the response headers. With `isEnd`, nothing follows the headers (Trailers-Only). Without it, the trailers are requested from the call at
   * the end.
   */
  respond(headers: HeaderBlock, isEnd: boolean): void;
  /** Called when the request has arrived. For a stream of requests, called when the first request has arrived. */
  arrived(): void;
}

const RESPONSE_HEADERS: HeaderBlock = { ":status": "200", "content-type": "application/grpc+proto" };
const OK_TRAILERS: HeaderBlock = { "grpc-status": "0" };

export class ServerCall implements MethodCall, MessageSink {
  readonly method: GrpcMethod;
  readonly connection: object;
  readonly #head: CallHead;
  readonly #headers: HeaderBlock;
  readonly #fields: readonly string[];
  readonly #port: CallPort;
  readonly #environment: CallEnvironment;
  readonly #deadlineMonoMs: number | undefined;
  #metadata: GrpcMetadata | undefined;
  /** `reading` until the client has ended its sending direction; `refused` if further request data is discarded. */
  #request: "reading" | "ended" | "refused" = "reading";
  #response: "none" | "begun" | "over" = "none";
  #writtenCount = 0;
  /** Whether the first request of a stream has been delivered. */
  #hasArrived = false;
  #reader: MessageReader | undefined;
  /** The request of a method that accepts exactly one request, until the client has ended its sending direction. */
  #onlyRequest: Uint8Array | undefined;
  /** Whether the first bytes of the request have arrived. */
  #hasBegun = false;
  #listener: RequestReceiver | undefined;
  #trailers = OK_TRAILERS;
  #cancelDeadline: (() => void) | undefined;
  #onCancelled: ((why: Cancellation) => void) | undefined;

  constructor(
    method: GrpcMethod,
    from: {
      readonly head: CallHead;
      /** The headers as node:http2 joins them. */
      readonly headers: HeaderBlock;
      /** Alternating names and values in the order of arrival. */
      readonly fields: readonly string[];
      readonly port: CallPort;
      readonly connection: object;
      readonly environment: CallEnvironment;
    },
  ) {
    this.method = method;
    this.connection = from.connection;
    this.#head = from.head;
    this.#headers = from.headers;
    this.#fields = from.fields;
    this.#port = from.port;
    this.#environment = from.environment;
    const { timeoutMs } = from.head;
    if (typeof timeoutMs === "number") this.#deadlineMonoMs = from.environment.nowMs() + timeoutMs;
  }

  /** Starts the call. The shell must report the stream's events from now on. */
  start(): void {
    const { method } = this;
    const { timeoutMs, encoding } = this.#head;
    try {
      const bounds = method.boundsFor === undefined ? this.#environment.bounds : method.boundsFor(this);
      const parts = { bounds, encoding, inflater: this.#environment.inflater, owner: this.connection, port: this.#port };
      const isStream = method.kind === "client_streaming" || method.kind === "bidi_streaming";
      if (timeoutMs instanceof WaymarkError) this.#refuse(timeoutMs);
      else if (isStream && this.#isExpired) this.#refuse(expired());
      else {
        this.#reader = new MessageReader(parts, this);
        if (!isStream) return;
        this.#armDeadline();
        this.#listener = method.open(this);
      }
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  header(name: string): string | undefined {
    return fieldOf(name, this.#headers, this.#fields);
  }

  get metadata(): GrpcMetadata {
    this.#metadata ??= metadataOf(this.#fields);
    return this.#metadata;
  }

  get timeoutMs(): number | undefined {
    return this.#deadlineMonoMs === undefined ? undefined : this.#deadlineMonoMs - this.#environment.nowMs();
  }

  get isGone(): boolean {
    return this.#port.isGone;
  }

  get isOver(): boolean {
    return this.#response === "over" || this.#port.isGone;
  }

  /** Whether the client has ended its sending direction. */
  get isRequestEnded(): boolean {
    return this.#request === "ended";
  }

  onCancelled(listener: (why: Cancellation) => void): void {
    this.#onCancelled = listener;
  }

  pause(): void {
    this.#reader?.pause();
  }

  resume(): void {
    this.#reader?.resume();
  }

  sendMetadata(metadata?: GrpcMetadata): void {
    if (this.isOver) return;
    assert(this.#response === "none", "response metadata was already sent", { path: this.method.path });
    this.#response = "begun";
    this.#port.respond(metadata === undefined ? RESPONSE_HEADERS : withMetadata(RESPONSE_HEADERS, metadata), false);
  }

  write(message: Uint8Array, taken?: WriteCallback): boolean {
    if (this.isOver) return true;
    this.#beginMessage();
    return this.#port.write(framedWithin(message, this.#environment.maxSendBytes), taken);
  }

  writeFrame(frame: Uint8Array, taken?: WriteCallback): boolean {
    if (this.isOver) return true;
    this.#beginMessage();
    return this.#port.write(frame, taken);
  }

  onceWritable(goOn: () => void): void {
    if (!this.isOver) this.#port.onceWritable(goOn);
  }

  // HOT: once per unary call: one write for headers and message.
  respond(message: Uint8Array, trailers?: GrpcMetadata): void {
    if (this.isOver) return;
    this.#beginMessage();
    const frame = framedWithin(message, this.#environment.maxSendBytes);
    this.#over(trailers === undefined ? OK_TRAILERS : withMetadata(OK_TRAILERS, trailers));
    this.#port.end(frame);
  }

  end(trailers?: GrpcMetadata): void {
    if (this.isOver) return;
    assert(this.#writtenCount > 0 || this.#mayAnswerNothing(), "a call ended with OK before sending its only response message", {
      path: this.method.path,
    });
    this.finish(OK, trailers);
  }

  fail(thrown: unknown): void {
    if (this.isOver) return;
    this.finish(this.#environment.statusOf(thrown, this));
  }

  finish(status: GrpcStatus, metadata?: GrpcMetadata): void {
    if (this.isOver) return;
    const fields = status === OK ? OK_TRAILERS : statusFields(status);
    const trailers = metadata === undefined ? fields : withMetadata(fields, metadata);
    const isBegun = this.#response === "begun";
    this.#over(trailers);
    if (isBegun) {
      this.#port.end();
      return;
    }
    this.#port.respond({ ...RESPONSE_HEADERS, ...trailers }, true);
    this.trailersSent();
  }

  reset(http2Code: number): void {
    if (this.isOver) return;
    this.#over(OK_TRAILERS);
    this.#port.reset(http2Code);
  }

  /** Called by the shell several times per second until the request has arrived. Ends the call if its deadline has passed. */
  checkArrival(): void {
    // The client has not ended its sending direction yet, so the request may be kept for some time.
    if (this.#onlyRequest !== undefined) this.#onlyRequest = apart(this.#onlyRequest);
    if (this.#isExpired && this.#request === "reading" && !this.isOver) this.#refuse(expired());
  }

  /** Called by the shell when a chunk of the request arrives. */
  data(chunk: Uint8Array): void {
    if (this.#request !== "reading") return; // Data after a rejection is dropped.
    const isFirst = !this.#hasBegun;
    this.#hasBegun = true;
    const mayInflate = this.#head.encoding !== undefined;
    if (isFirst && mayInflate) this.#judgeHeaders();
    this.#reader?.push(chunk);
    if (isFirst && !mayInflate && this.#onlyRequest === undefined && !this.isOver) this.#judgeHeaders();
  }

  /**
   * Checks the headers before more parts of a request are read or a compressed request is inflated, so that this work is done only for permitted
   * callers.
   */
  #judgeHeaders(): void {
    const { method } = this;
    if (method.kind !== "unary" && method.kind !== "server_streaming") return;
    const judged = method.judgeHeaders?.(this);
    if (judged instanceof WaymarkError) this.#refuse(judged);
    if (!(judged instanceof Promise)) return;
    this.#reader?.pause();
    const goOn = (refusal: WaymarkError | undefined) => {
      if (refusal !== undefined && !this.isOver) this.#refuse(refusal);
      if (this.isOver)
        this.#port.resume(); // Further data is dropped.
      else this.#reader?.resume();
    };
    void judged.then(goOn);
  }

  /** Called by the shell when the client has ended its sending direction. */
  requestEnded(): void {
    const isWanted = this.#request === "reading";
    this.#request = "ended";
    this.#port.arrived();
    if (isWanted) this.#reader?.end();
  }

  /** Called by the shell when everything has been sent. Returns the trailers. */
  trailers(): HeaderBlock {
    return this.#trailers;
  }

  /**
   * Called by the shell when the trailers have been sent. Resets the stream if the rest of the request is not needed (RFC 9113, section
   * 8.1).
   */
  trailersSent(): void {
    if (this.#request === "refused") this.#port.reset(HTTP2_ERROR.NO_ERROR);
  }

  /** Called by the shell when the stream has closed, for any reason. */
  closed(): void {
    const isCancelled = this.#response !== "over";
    this.#over(this.#trailers);
    if (isCancelled) this.#reportCancelled("cancelled");
  }

  /** Called by the reader for each request. */
  message(bytes: Uint8Array): void {
    if (this.#listener === undefined) {
      if (this.#onlyRequest === undefined) this.#onlyRequest = bytes;
      else this.#refuse(notOne("the client sent more than one request message"));
      return;
    }
    if (!this.#hasArrived) this.#port.arrived();
    this.#hasArrived = true;
    try {
      this.#listener.message(bytes);
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  /** Called by the reader after the last request. */
  ended(): void {
    if (this.#listener === undefined) {
      this.#run(this.#onlyRequest ?? notOne("the client sent no request message"));
      return;
    }
    this.#reader?.handled();
    try {
      this.#listener.halfClosed();
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  /** Called by the reader when the received bytes are not a valid message. */
  failed(error: WaymarkError): void {
    if (this.#request === "reading") this.#request = "refused";
    if (this.#listener === undefined)
      this.#refuse(this.#onlyRequest === undefined ? error : notOne("the client sent more than one request message"));
    else if (this.#listener.failed === undefined) this.fail(error);
    else this.#listener.failed(error);
  }

  #run(received: Uint8Array | WaymarkError): void {
    const { method } = this;
    const request = this.#isExpired ? expired() : received;
    this.#onlyRequest = undefined;
    if (request instanceof WaymarkError) {
      this.#refuse(request);
      return;
    }
    assert(
      method.kind === "unary" || method.kind === "server_streaming",
      "a method with a request stream was called with a single request",
    );
    try {
      method.handle(request, this);
    } catch (thrown) {
      this.fail(thrown);
    }
    // The responses may continue for a long time. A unary call remains charged for its inflated request until it is answered.
    if (method.kind === "server_streaming") this.#stopReading();
    if (this.#response !== "over") this.#armDeadline();
  }

  /** Stops reading. An open watch then does not keep its reader, which would use 0.25 kB. */
  #stopReading(): void {
    this.#reader?.drop();
    this.#reader = undefined;
  }

  #refuse(error: WaymarkError): void {
    if (this.#request === "reading") this.#request = "refused";
    this.#onlyRequest = undefined;
    this.#reader?.drop();
    if (this.method.refused === undefined) this.fail(error);
    else this.method.refused(error, this);
  }

  /** Called before each message. Sends the headers before the first message. */
  #beginMessage(): void {
    if (this.#writtenCount > 0 && !this.#mayAnswerNothing())
      assert(false, "a call that allows one response message sent another one", { path: this.method.path });
    this.#writtenCount += 1;
    this.#reader?.handled();
    if (this.#response === "none") this.sendMetadata();
  }

  #mayAnswerNothing(): boolean {
    return this.method.kind === "server_streaming" || this.method.kind === "bidi_streaming";
  }

  get #isExpired(): boolean {
    return this.#deadlineMonoMs !== undefined && this.#deadlineMonoMs <= this.#environment.nowMs();
  }

  #armDeadline(): void {
    const { timeoutMs } = this;
    if (timeoutMs === undefined || this.isOver) return;
    this.#cancelDeadline = this.#port.later(() => {
      if (this.isOver) return;
      this.#reportCancelled("deadline");
      this.fail(expired()); // Does nothing if the listener has already ended the call.
    }, timeoutMs);
  }

  #reportCancelled(why: Cancellation): void {
    const listener = this.#onCancelled;
    this.#onCancelled = undefined;
    listener?.(why);
  }

  /** Marks the call as over, after which it does not read or write any more data. */
  #over(trailers: HeaderBlock): void {
    this.#response = "over";
    this.#trailers = trailers;
    this.#cancelDeadline?.();
    this.#cancelDeadline = undefined;
    this.#onlyRequest = undefined;
    this.#reader?.drop();
    if (this.#request === "reading") this.#request = "refused";
  }
}

/** Rejects a call whose number of requests is not allowed for its kind. The code is specified in gRPC's statuscodes.md. */
function notOne(fault: string): WaymarkError {
  return new WaymarkError("unimplemented", `${fault}; this method requires exactly one`);
}

function withMetadata(fields: HeaderBlock, metadata: GrpcMetadata): HeaderBlock {
  const block: Record<string, string | readonly string[]> = {};
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) block[name] = value;
  addFields(block, metadata);
  return block;
}
