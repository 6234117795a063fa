/** What a service is to the listeners: handlers over messages, which know neither gRPC nor Connect. */
import type { DescService, JsonValue, Message } from "@bufbuild/protobuf";
import type { WaymarkError } from "../lib/errors.ts";
import type { Time } from "../lib/machine.ts";
import type { Caller } from "../policy/identity/caller.ts";

export interface CallContext {
  readonly caller: Caller;
  readonly time: Time;
  readonly requestId: string;
}

/**
 * Answers one request. Returns a message, or the response's encoded bytes where they already exist (HOT methods);
 * throws WaymarkError to refuse. A plain value is sent in the same turn of the event loop; a promise is awaited.
 */
export type UnaryHandler<I extends Message = Message, O extends Message = Message> = (
  request: I,
  context: CallContext,
) => O | Uint8Array | Promise<O | Uint8Array>;

/**
 * One open server stream, pulled by the listener: one message in flight, the next is pulled in the write callback.
 * A source that has nothing keeps a cursor, not a queue.
 */
export interface StreamSource {
  /** Called once, before the first pull. `wake` says that pull may have something; `end` finishes the stream after what was pulled. */
  attach(wake: () => void, end: (error: WaymarkError | undefined) => void): void;
  /** The next message's encoded bytes, or undefined when there is nothing now (then `wake` follows some time). */
  pull(time: Time): Uint8Array | undefined;
  /** The stream is over, for whatever reason; called exactly once. */
  close(): void;
}

/** Opens a server stream; throws WaymarkError to refuse. */
export type ServerStreamHandler<I extends Message = Message> = (request: I, context: CallContext) => StreamSource;

/** How the handler of a stream of requests answers. An order to a stream that is over does nothing. */
export interface Answers<O extends Message = Message> {
  /**
   * Sends one answer, a message or its encoded bytes, once the handler has returned its listener. False when the client takes answers
   * more slowly than they come: then the next should wait for `onceRoomy`.
   */
  send(answer: O | Uint8Array): boolean;
  /** Calls `goOn` when the client takes answers again, never when it goes away instead. */
  onceRoomy(goOn: () => void): void;
  /** No request is given until `resume`: what the client sends stays in its flow-control window. */
  pause(): void;
  resume(): void;
  /** Ends the stream with OK after what was sent. */
  end(): void;
  /** Ends the stream with the status for whatever was thrown. */
  fail(thrown: unknown): void;
}

/** Takes the requests of one stream. What a method of it throws ends the stream. */
export interface RequestListener<I extends Message = Message> {
  /** One request, and the time now. */
  message(request: I, time: Time): void;
  /** The client has sent all its requests. */
  halfClosed(): void;
  /** The server drains: end the stream with this error once what was asked is answered. */
  leave(error: WaymarkError): void;
  /** The stream is over, for whatever reason; called exactly once. */
  close(): void;
}

/** Opens a stream of requests, whether it is answered with one message or with many; throws WaymarkError to refuse. */
export type RequestStreamHandler<I extends Message = Message, O extends Message = Message> = (
  answers: Answers<O>,
  context: CallContext,
) => RequestListener<I>;

/** What a method does, by the kind that its descriptor says (`methodKind`). */
export type Handler =
  | { readonly kind: "unary"; readonly handle: UnaryHandler<never> }
  | { readonly kind: "server_streaming"; readonly open: ServerStreamHandler<never> }
  | { readonly kind: "client_streaming" | "bidi_streaming"; readonly open: RequestStreamHandler<never> };

/** The query parameters of a GET request, by name. */
export type RouteParameters = Readonly<Record<string, string>>;

/**
 * What a route answers: a page of JSON, with what of it stays the same while nothing but time and traffic goes on, where that is less than
 * the page; or a JSON text in pieces, which is read over several turns of the event loop and must outlive changes.
 */
export type RouteAnswer =
  | { readonly kind: "page"; readonly page: JsonValue; readonly steady?: JsonValue }
  | { readonly kind: "pieces"; readonly pieces: Iterable<string> };

/** A path of HTTP GET that gives what an rpc answers in a form of its own. Its caller passes the chain of that rpc. */
export interface Route {
  readonly path: string;
  /** Names of the query parameters that it takes; any other is refused. */
  readonly parameters: readonly string[];
  /** Programs scrape it: the setting `observability.metrics_access` holds for it too. */
  readonly isScraped?: true;
  /** Local name of the rpc whose roles, limit and counts hold. A parameter with the name of the rpc's owner field says whose call it is. */
  readonly rpc: (parameters: RouteParameters) => string;
  /** Throws `invalid_argument` naming the parameter. */
  readonly answer: (parameters: RouteParameters, context: CallContext) => RouteAnswer;
}

/** A service and its handlers by method local name (`catalogQuery`); a method without one answers `unimplemented`. */
export interface Service {
  readonly desc: DescService;
  readonly handlers: Readonly<Record<string, Handler>>;
  readonly routes?: readonly Route[];
  /** Largest request, in bytes, where it is less than a listener takes otherwise. */
  readonly maxRequestBytes?: number | undefined;
}
