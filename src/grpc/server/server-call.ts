/**
 * The server's half of one call: what may come and go when, whatever the kind of its method. It does no I/O itself: the shell tells it what
 * comes on the HTTP/2 stream, and gives it the stream as a port. Rules: gRPC over HTTP/2; for wrong numbers of messages its statuscodes.md.
 */
import { assert, WaymarkError } from "../../lib/errors.ts";
import type { StreamPort, WriteCallback } from "../wire/message-reader.ts";
import { type AssemblyBounds, apart, framedWithin, type Inflater, MessageReader, type MessageSink } from "../wire/message-reader.ts";
import { addFields, type GrpcMetadata, type HeaderBlock, metadataOf } from "../wire/metadata.ts";
import { type CallHead, expired, fieldOf } from "../wire/request-head.ts";
import { type GrpcStatus, HTTP2_ERROR, OK, statusFields } from "../wire/status.ts";
import type { Cancellation, GrpcMethod, MethodCall, RequestReceiver } from "./method.ts";

/** What all calls of a server share. */
export interface CallEnvironment {
  readonly bounds: AssemblyBounds;
  /** Largest message that is sent, in bytes. */
  readonly maxSendBytes: number;
  /** Absent where compressed requests are refused. */
  readonly inflater: Inflater | undefined;
  /** The status for whatever ended a call. Must not throw. */
  statusOf(thrown: unknown, call: MethodCall): GrpcStatus;
  /** Monotonic ms. */
  nowMs(): number;
}

/** The stream of a call, and what the server's own bookkeeping hears of it. */
export interface CallPort extends StreamPort {
  /** Sends the response headers. With `isEnd` they are all there is (Trailers-Only); otherwise trailers are asked of the call at the end. */
  respond(headers: HeaderBlock, isEnd: boolean): void;
  /** The request is here; of a stream of requests, the first. */
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
  /** `reading` until the client ended its direction; `refused` when what it still sends is not wanted. */
  #request: "reading" | "ended" | "refused" = "reading";
  #response: "none" | "begun" | "over" = "none";
  #writtenCount = 0;
  /** Whether the first request of a stream was given. */
  #hasArrived = false;
  #reader: MessageReader | undefined;
  /** The request of a method with one, until its client has sent all it sends. */
  #only: Uint8Array | undefined;
  /** Whether the first bytes of the request are here. */
  #hasBegun = false;
  #listener: RequestReceiver | undefined;
  #trailers = OK_TRAILERS;
  #cancelDeadline: (() => void) | undefined;
  #onCancelled: ((why: Cancellation) => void) | undefined;

  constructor(
    method: GrpcMethod,
    from: {
      readonly head: CallHead;
      /** As node:http2 joins them. */
      readonly headers: HeaderBlock;
      /** Names and values in turn, as they came. */
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

  /** Starts the call; what comes on the stream is told from now on. */
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

  /** Whether the client sent all it sends. */
  get isRequestEnded(): boolean {
    return this.#request === "ended";
  }

  onCancelled(told: (why: Cancellation) => void): void {
    this.#onCancelled = told;
  }

  pause(): void {
    this.#reader?.pause();
  }

  resume(): void {
    this.#reader?.resume();
  }

  sendMetadata(metadata?: GrpcMetadata): void {
    if (this.isOver) return;
    assert(this.#response === "none", "response metadata is sent once, before the first message", { path: this.method.path });
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

  // HOT: once a unary call: one write for headers and message.
  respond(message: Uint8Array, trailers?: GrpcMetadata): void {
    if (this.isOver) return;
    this.#beginMessage();
    const frame = framedWithin(message, this.#environment.maxSendBytes);
    this.#over(trailers === undefined ? OK_TRAILERS : withMetadata(OK_TRAILERS, trailers));
    this.#port.end(frame);
  }

  end(trailers?: GrpcMetadata): void {
    if (this.isOver) return;
    assert(this.#writtenCount > 0 || this.#mayAnswerNothing(), "a call with one answer ends with OK after its answer", {
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

  /** The shell, a few times a second until the request is here: ends the call when its deadline passed. */
  checkArrival(): void {
    if (this.#only !== undefined) this.#only = apart(this.#only); // Its client does not say that it was all.
    if (this.#isExpired && this.#request === "reading" && !this.isOver) this.#refuse(expired());
  }

  /** The shell: a chunk of the request came. */
  data(chunk: Uint8Array): void {
    if (this.#request !== "reading") return; // What still comes after a refusal is dropped.
    const isFirst = !this.#hasBegun;
    this.#hasBegun = true;
    const mayInflate = this.#head.encoding !== undefined;
    if (isFirst && mayInflate) this.#judgeHeaders();
    this.#reader?.push(chunk);
    if (isFirst && !mayInflate && this.#only === undefined && !this.isOver) this.#judgeHeaders();
  }

  /** Checks the headers before more pieces of a request are read or a compressed request is decompressed, so that this happens only for permitted callers. */
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
        this.#port.resume(); // What still comes is dropped.
      else this.#reader?.resume();
    };
    void judged.then(goOn);
  }

  /** The shell: the client ended its direction. */
  requestEnded(): void {
    const isWanted = this.#request === "reading";
    this.#request = "ended";
    this.#port.arrived();
    if (isWanted) this.#reader?.end();
  }

  /** The shell: everything was sent; the trailers for it. */
  trailers(): HeaderBlock {
    return this.#trailers;
  }

  /** The shell: the trailers are sent. The client is told that the rest of its request is not wanted (RFC 9113, section 8.1). */
  trailersSent(): void {
    if (this.#request === "refused") this.#port.reset(HTTP2_ERROR.NO_ERROR);
  }

  /** The shell: the stream is over, for whatever reason. */
  closed(): void {
    const isCancelled = this.#response !== "over";
    this.#over(this.#trailers);
    if (isCancelled) this.#tellCancelled("cancelled");
  }

  /** The reader: one request. */
  message(bytes: Uint8Array): void {
    if (this.#listener === undefined) {
      if (this.#only === undefined) this.#only = bytes;
      else this.#refuse(notOne("more than one request message came"));
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

  /** The reader: all requests were given. */
  ended(): void {
    if (this.#listener === undefined) {
      this.#run(this.#only ?? notOne("no request message came"));
      return;
    }
    this.#reader?.handled();
    try {
      this.#listener.halfClosed();
    } catch (thrown) {
      this.fail(thrown);
    }
  }

  /** The reader: what came is no message that may come. */
  failed(error: WaymarkError): void {
    if (this.#request === "reading") this.#request = "refused";
    if (this.#listener === undefined) this.#refuse(this.#only === undefined ? error : notOne("more than one request message came"));
    else if (this.#listener.failed === undefined) this.fail(error);
    else this.#listener.failed(error);
  }

  #run(came: Uint8Array | WaymarkError): void {
    const { method } = this;
    const request = this.#isExpired ? expired() : came;
    this.#only = undefined;
    if (request instanceof WaymarkError) {
      this.#refuse(request);
      return;
    }
    assert(method.kind === "unary" || method.kind === "server_streaming", "only methods with one request are run");
    try {
      method.handle(request, this);
    } catch (thrown) {
      this.fail(thrown);
    }
    if (method.kind === "server_streaming") this.#stopReading(); // Its answers may last; a unary call is charged until it is answered.
    if (this.#response !== "over") this.#armDeadline();
  }

  /** Nothing more is read: an open watch holds no reader, which would be 0.25 kB. */
  #stopReading(): void {
    this.#reader?.drop();
    this.#reader = undefined;
  }

  #refuse(error: WaymarkError): void {
    if (this.#request === "reading") this.#request = "refused";
    this.#only = undefined;
    this.#reader?.drop();
    if (this.method.refused === undefined) this.fail(error);
    else this.method.refused(error, this);
  }

  /** Before each message. The headers go before the first. */
  #beginMessage(): void {
    if (this.#writtenCount > 0 && !this.#mayAnswerNothing()) assert(false, "a call has one answer", { path: this.method.path });
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
      this.#tellCancelled("deadline");
      this.fail(expired()); // Unless it was ended by what was told.
    }, timeoutMs);
  }

  #tellCancelled(why: Cancellation): void {
    const told = this.#onCancelled;
    this.#onCancelled = undefined;
    told?.(why);
  }

  /** Nothing more is written or read by the call. */
  #over(trailers: HeaderBlock): void {
    this.#response = "over";
    this.#trailers = trailers;
    this.#cancelDeadline?.();
    this.#cancelDeadline = undefined;
    this.#only = undefined;
    this.#reader?.drop();
    if (this.#request === "reading") this.#request = "refused";
  }
}

/** Refusal of a call with another number of requests than its kind has; the code is that of gRPC's statuscodes.md. */
function notOne(what: string): WaymarkError {
  return new WaymarkError("unimplemented", `${what}; a call of this kind has one`);
}

function withMetadata(fields: HeaderBlock, metadata: GrpcMetadata): HeaderBlock {
  const block: Record<string, string | readonly string[]> = {};
  for (const [name, value] of Object.entries(fields)) if (value !== undefined) block[name] = value;
  addFields(block, metadata);
  return block;
}
