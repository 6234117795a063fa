/** The read worker's side of forwarding: handlers that send calls to the main thread and return the answers from there. */
import { type DescMessage, type DescMethod, type DescService, fromBinary, type Message, toBinary } from "@bufbuild/protobuf";
import { MessageBufferReader } from "../../catalog/copy/change-codec.ts";
import { assert, receivedError, WaymarkError } from "../../lib/errors.ts";
import type { Caller } from "../../policy/identity/caller.ts";
import { answeringEach } from "../answered-stream.ts";
import { isForwarded, rpcName } from "../contract.ts";
import { requestReader } from "../discovery/response-bytes.ts";
import {
  type CallContext,
  type HttpRoute,
  type MethodHandler,
  type RouteRow,
  routeName,
  rpcsOf,
  type SentRoute,
  type ServiceDefinition,
  type StreamSource,
} from "../service.ts";
import { ANSWERED, ASKED, type CallAnswers, type CallRequests, decodeRouteAnswer, encodeParameters, ObjectBuffer } from "./messages.ts";

/** Limits on the forwarded calls that are waiting for the main thread. */
export const FORWARDING_BOUNDS = { maxCalls: 16_384, maxBytes: 64 * 1024 * 1024 } as const;

/** Retry delay for calls that are rejected because too many calls are waiting. */
const RETRY_MS = 1_000;

export interface CallForwarderOptions {
  /** Largest number of unanswered calls. A stream counts as a call until the main thread has opened it. */
  readonly maxCalls: number;
  /** Largest total size of the requests in these calls, in bytes. */
  readonly maxBytes: number;
  /** Called when messages are pending, and at most once before each `take`. */
  readonly wake: () => void;
}

interface ForwardedRequest {
  readonly path: string;
  readonly context: CallContext;
  readonly bytes: Uint8Array;
}

/** A call that is not answered yet. */
interface PendingCall {
  readonly sizeBytes: number;
  readonly resolve: (answer: Uint8Array) => void;
  readonly reject: (error: WaymarkError) => void;
}

export class CallForwarder {
  readonly #options: CallForwarderOptions;
  readonly #outbox: ObjectBuffer<Caller>;
  readonly #calls = new Map<number, PendingCall>();
  readonly #sources = new Map<number, ForwardedSource>();
  readonly #overload: WaymarkError;
  #lastId = 0;
  #waitingBytes = 0;
  #closed: WaymarkError | undefined;

  constructor(options: CallForwarderOptions) {
    this.#options = options;
    this.#outbox = new ObjectBuffer(options.wake);
    const { maxCalls, maxBytes } = options;
    const facts = { metadata: { max_calls: `${maxCalls}`, max_bytes: `${maxBytes}` }, retryMs: RETRY_MS };
    // All rejected calls share one error, so that its status is encoded only once.
    this.#overload = new WaymarkError(
      "discovery_rate_limited",
      `this node is overloaded: too many calls are waiting; retry in ${RETRY_MS} ms`,
      facts,
    );
  }

  /**
   * Returns a service for this worker. The service forwards the calls that the main thread must answer according to their protos (`answered_by`). The
   * service also forwards routes for these calls: the main thread's routes in `rows` that `own` does not serve. For a route of events or with a
   * body, it forwards only the rpc.
   */
  service(
    desc: DescService,
    own: Partial<ServiceDefinition> = {},
    rows: readonly SentRoute[] = [],
  ): Required<Pick<ServiceDefinition, "desc" | "handlers" | "routes">> {
    const { handlers = {}, routes = [] } = own;
    const forwarded = desc.methods.filter((method) => isForwarded(method, handlers[method.localName] !== undefined));
    const isForwardedRpc = (rpc: string) => forwarded.some(({ localName }) => localName === rpc);
    const others = rows.filter((row) => rpcsOf(row).every(isForwardedRpc) && !routes.some((route) => routeName(route) === routeName(row)));
    return {
      desc,
      handlers: { ...handlers, ...Object.fromEntries(forwarded.map((method) => [method.localName, this.handler(method)])) },
      routes: [...routes, ...others.map((row) => ("events" in row || "method" in row ? row : this.#route(row)))],
    };
  }

  /** Returns a handler that forwards a method to the main thread. Each request in a request stream is answered with one message. */
  handler(method: DescMethod): MethodHandler {
    const path = rpcName(method);
    const readFast = requestReader(method.input.typeName);
    const read = (bytes: Uint8Array) => keeping(readFast?.(bytes) ?? fromBinary(method.input, bytes), bytes);
    const handle = (request: Message, context: CallContext) => this.#call(path, bytesOf(method.input, request), context);
    switch (method.methodKind) {
      case "unary":
        return { kind: "unary", handle, read };
      case "server_streaming":
        return {
          kind: "server_streaming",
          open: (request: Message, context) => this.#open(path, bytesOf(method.input, request), context),
          read,
        };
      case "bidi_streaming":
        return answeringEach(handle, read);
      case "client_streaming":
        throw new Error(`${path} cannot be forwarded: client streaming is not supported`);
    }
  }

  /** Returns and removes the messages to send. Undefined if there are none. */
  take(): CallRequests | undefined {
    const taken = this.#outbox.take();
    return taken && { said: taken.said, callers: taken.objects };
  }

  hear({ said, errors }: CallAnswers): void {
    const reader = new MessageBufferReader(said);
    while (!reader.isDone) this.#hear(reader, errors);
  }

  /** Ends all calls, and rejects every later call, because the main thread no longer answers. */
  close(): void {
    const closed = new WaymarkError("draining", "this node is stopping: use another node", { retryMs: RETRY_MS });
    this.#closed = closed;
    for (const id of this.#calls.keys()) this.#settled(id)?.reject(closed);
    for (const id of this.#sources.keys()) this.#ended(id, closed);
  }

  #route(row: RouteRow): HttpRoute {
    return {
      ...row,
      answer: async (parameters, context) => decodeRouteAnswer(await this.#call(row.path, encodeParameters(parameters), context)),
    };
  }

  // HOT: runs once per registration and once per renewal.
  #call(path: string, bytes: Uint8Array, context: CallContext): Promise<Uint8Array> {
    this.#checkRoom(bytes.length);
    const { promise, resolve, reject } = Promise.withResolvers<Uint8Array>();
    this.#say(ASKED.CALL, { path, context, bytes }, { sizeBytes: bytes.length, resolve, reject });
    const id = this.#lastId;
    context.onOver = () => this.#tell(ASKED.CLOSE, id);
    return promise;
  }

  #open(path: string, bytes: Uint8Array, context: CallContext): StreamSource {
    this.#checkRoom(bytes.length);
    const id = this.#lastId + 1;
    const source = new ForwardedSource({ more: () => this.#tell(ASKED.MORE, id), close: () => this.#close(id) });
    this.#sources.set(id, source);
    this.#say(ASKED.OPEN, { path, context, bytes }, { sizeBytes: bytes.length, resolve: () => {}, reject: () => {} });
    return source;
  }

  /** Throws if too many calls are waiting, or if the main thread no longer answers. */
  #checkRoom(sizeBytes: number): void {
    if (this.#closed !== undefined) throw this.#closed;
    const { maxCalls, maxBytes } = this.#options;
    if (this.#calls.size >= maxCalls || this.#waitingBytes + sizeBytes > maxBytes) throw this.#overload;
  }

  #say(what: number, { path, context, bytes }: ForwardedRequest, call: PendingCall): void {
    this.#waitingBytes += call.sizeBytes;
    this.#calls.set(++this.#lastId, call);
    const { out } = this.#outbox;
    out.numbers(what, this.#lastId, this.#outbox.place(context.caller));
    out.text(path);
    out.text(context.requestId);
    out.bytes(bytes);
    this.#outbox.touch();
  }

  #tell(what: number, id: number): void {
    if (!this.#sources.has(id) && !this.#calls.has(id)) return;
    this.#outbox.out.numbers(what, id);
    this.#outbox.touch();
  }

  /**
   * Closes a stream. A stream that is not open yet still counts as a waiting call, so that a client that opens and closes streams cannot fill the
   * memory.
   */
  #close(id: number): void {
    this.#tell(ASKED.CLOSE, id);
    this.#sources.delete(id);
  }

  /**
   * Reads one message. The main thread may still answer a source that was closed on this side. The id of the source is then unknown, and the message
   * has no effect.
   */
  #hear(reader: MessageBufferReader, errors: CallAnswers["errors"]): void {
    const what = reader.number();
    const id = reader.number();
    switch (what) {
      case ANSWERED.ANSWER: {
        const bytes = reader.bytes();
        this.#settled(id)?.resolve(bytes);
        return;
      }
      case ANSWERED.FAILED: {
        const sent = errors[reader.number()];
        assert(sent !== undefined, "an answer refers to a missing error", { id });
        const error = receivedError(sent);
        this.#settled(id)?.reject(error);
        this.#ended(id, error);
        return;
      }
      case ANSWERED.OPENED:
        this.#settled(id);
        return;
      case ANSWERED.MESSAGE: {
        const bytes = reader.bytes();
        this.#sources.get(id)?.message(bytes);
        return;
      }
      case ANSWERED.ENDED:
        this.#ended(id, undefined);
        return;
      default:
        assert(false, "the main thread sent an unknown message code", { what });
    }
  }

  #settled(id: number): PendingCall | undefined {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    this.#waitingBytes -= call?.sizeBytes ?? 0;
    return call;
  }

  #ended(id: number, error: WaymarkError | undefined): void {
    const source = this.#sources.get(id);
    this.#sources.delete(id);
    source?.ended(error);
  }
}

interface SourcePorts {
  readonly more: () => void;
  readonly close: () => void;
}

/**
 * A stream whose source is on the main thread. The stream requests one message at a time, so at most one message is buffered in the worker while the
 * client does not read.
 */
class ForwardedSource implements StreamSource {
  readonly #ports: SourcePorts;
  #wake: (() => void) | undefined;
  #end: ((error: WaymarkError | undefined) => void) | undefined;
  /** A message that was received but not yet pulled. */
  #message: Uint8Array | undefined;
  /** Initially true, because opening the stream also requests its first message. */
  #isAsked = true;
  #ending: { readonly error: WaymarkError | undefined } | undefined;

  constructor(ports: SourcePorts) {
    this.#ports = ports;
  }

  attach(wake: () => void, end: (error: WaymarkError | undefined) => void): void {
    this.#wake = wake;
    this.#end = end;
    if (this.#ending !== undefined && this.#message === undefined) end(this.#ending.error);
  }

  pull(): Uint8Array | undefined {
    const message = this.#message;
    this.#message = undefined;
    if (message !== undefined && this.#ending !== undefined) this.#end?.(this.#ending.error);
    if (message === undefined && !this.#isAsked) {
      this.#isAsked = true;
      this.#ports.more();
    }
    return message;
  }

  close(): void {
    this.#ports.close();
  }

  message(bytes: Uint8Array): void {
    this.#message = bytes;
    this.#isAsked = false;
    this.#wake?.();
  }

  /** Ends the stream after the last message has been pulled. */
  ended(error: WaymarkError | undefined): void {
    this.#ending = { error };
    if (this.#message === undefined) this.#end?.(error);
  }
}

// The encoded bytes of a request are kept with its message, so that the request can be forwarded without encoding it again.

/** The property that stores the encoded bytes of a request. */
const BYTES = Symbol("bytes");

interface KeptBytes {
  [BYTES]?: Uint8Array;
}

/** Stores the encoded bytes with a request. Encoding the request again would cost more than all other steps of forwarding together. */
export function keeping(request: Message & KeptBytes, bytes: Uint8Array): Message {
  request[BYTES] = bytes;
  return request;
}

/** Returns the encoded bytes that `keeping` stored with a request. If there are none, encodes the request. */
export function bytesOf(desc: DescMessage, request: Message & KeptBytes): Uint8Array {
  return request[BYTES] ?? toBinary(desc, request);
}
