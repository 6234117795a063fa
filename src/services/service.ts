/** Types of a service as the listeners use it: message handlers that are independent of gRPC and Connect. */
import type { DescService, JsonValue, Message } from "@bufbuild/protobuf";
import { isLoopbackHost } from "../lib/addresses.ts";
import { WaymarkError } from "../lib/errors.ts";
import type { Time } from "../lib/machine.ts";
import { type Caller, demandRole } from "../policy/identity/caller.ts";
import type { AnswerAge } from "./discovery/answer-age.ts";

export interface CallContext {
  readonly caller: Caller;
  readonly time: Time;
  readonly requestId: string;
  /** The client's deadline in monotonic ms. Absent if the client did not set a deadline. */
  readonly deadlineMonoMs?: number | undefined;
  /** The age of the data from which the answer was made. Absent if the answer comes from this server's own data and has the age of that data. */
  readonly age?: AnswerAge | undefined;
  /**
   * A handler sets this callback if it has to wait. The callback is called if the deadline passes or the client disconnects before the answer is
   * ready. The answer is then not sent.
   */
  onOver?: () => void;
}

/**
 * Answers one request. Returns a message, or the response's encoded bytes if they already exist (HOT methods). Throws WaymarkError to reject the
 * request. A plain value is sent in the same turn of the event loop, and a promise is awaited.
 */
export type UnaryHandler<I extends Message = Message, O extends Message = Message> = (
  request: I,
  context: CallContext,
) => O | Uint8Array | Promise<O | Uint8Array>;

/**
 * One open server stream. The listener pulls its messages. Only one message is in flight, and the next one is pulled in the write callback. A source
 * stores a cursor instead of a queue.
 */
export interface StreamSource {
  /**
   * Called once, before the first pull. `wake` makes the listener pull again. `end` ends the stream after the messages that have already been pulled.
   */
  attach(wake: () => void, end: (error: WaymarkError | undefined) => void): void;
  /** Returns the encoded bytes of the next message. Undefined if there is none now. In that case the source calls `wake` later. */
  pull(time: Time): Uint8Array | undefined;
  /** Whether the message that was pulled last was the last one available, so that nothing is pulled before `wake`. Absent means false. */
  readonly isDrained?: boolean;
  /** Whether the stream ends immediately when the server drains. Absent if the source detects the drain itself and ends after its last message. */
  readonly endsAtDrain?: true;
  /** Called exactly once when the stream has ended, for any reason. */
  close(): void;
}

/** Opens a server stream. Throws WaymarkError to reject the request. */
export type ServerStreamHandler<I extends Message = Message> = (request: I, context: CallContext) => StreamSource;

/** The interface through which the handler of a request stream answers. Calls for a stream that has ended have no effect. */
export interface AnswerSink<O extends Message = Message> {
  /**
   * Sends one answer, as a message or as its encoded bytes. May be called after the handler has returned its listener. Returns false if the client
   * reads more slowly than answers are sent. In that case the next answer should wait for `onceRoomy`.
   */
  send(answer: O | Uint8Array): boolean;
  /** Calls `goOn` when the client reads again. `goOn` is not called if the client disconnects. */
  onceRoomy(goOn: () => void): void;
  /** Stops the delivery of requests until `resume`. Further requests from the client wait in the flow-control window. */
  pause(): void;
  resume(): void;
  /** Ends the stream with OK after all answers have been sent. */
  end(): void;
  /** Ends the stream with the status of the thrown error. */
  fail(thrown: unknown): void;
}

/** Receives the requests of one stream. An error that one of its methods throws ends the stream. */
export interface RequestListener<I extends Message = Message> {
  /** Called for each request, with the current time. */
  message(request: I, time: Time): void;
  /** Called when the client has sent all its requests. */
  halfClosed(): void;
  /** Called when the server drains. The listener ends the stream with this error after all requests are answered. */
  leave(error: WaymarkError): void;
  /** Called exactly once when the stream has ended, for any reason. */
  close(): void;
}

/** Opens a request stream, which is answered with one message or with many. Throws WaymarkError to reject the request. */
export type RequestStreamHandler<I extends Message = Message, O extends Message = Message> = (
  answers: AnswerSink<O>,
  context: CallContext,
) => RequestListener<I>;

/** Decodes a request faster than protobuf-es, with the same result. Returns undefined for bytes that only protobuf-es can decode. */
export type RequestReader = (bytes: Uint8Array) => Message | undefined;

/** The handler for a method, depending on the kind in its descriptor (`methodKind`). `read` is set for the most frequently called methods. */
export type MethodHandler =
  | {
      readonly kind: "unary";
      readonly handle: UnaryHandler<never>;
      readonly read?: RequestReader | undefined;
      /**
       * If the service currently lacks memory for a message of this size, returns the error, so that the request is rejected before it is decoded.
       */
      readonly refuseEarly?: (requestBytes: number) => WaymarkError | undefined;
    }
  | { readonly kind: "server_streaming"; readonly open: ServerStreamHandler<never>; readonly read?: RequestReader | undefined }
  | {
      readonly kind: "client_streaming" | "bidi_streaming";
      readonly open: RequestStreamHandler<never>;
      /** The handler for each request, if each request is answered with one message, in order. */
      readonly answerOne?: UnaryHandler<never>;
      readonly read?: RequestReader | undefined;
    };

/** The query parameters of a GET request, by name. */
export type RouteParameters = Readonly<Record<string, string>>;

/**
 * The answer of a route. A `page` is a single JSON value. `steady` is the page without values that change only with time and traffic; it is absent if
 * the page has no such values. The page of `marked` is made only for a reader that does not have it yet: `mark` is a text that changes whenever the
 * steady part of the page changes. `pieces` are parts of a JSON text that is read over several turns of the event loop, while the catalog may change.
 */
export type RouteAnswer =
  | { readonly kind: "page"; readonly page: JsonValue; readonly steady?: JsonValue }
  | { readonly kind: "marked"; readonly mark: string; readonly page: () => JsonValue }
  | { readonly kind: "pieces"; readonly pieces: Iterable<string> };

/**
 * A path for HTTP requests: for GET, unless the row has a method. The access rules, limits and metrics of an rpc apply to requests for this path. The
 * main thread sends the list of routes to read workers.
 */
export interface RouteRow {
  /** `{name}` is a parameter with the name of a field of the request. Its value is percent-encoded, and contains neither "/" nor ":". */
  readonly path: string;
  /** Names of the accepted query parameters. Requests with any other parameter are rejected. */
  readonly parameters: readonly string[];
  /** Whether monitoring programs scrape the route, so that the setting `observability.metrics_access` applies to it too. */
  readonly isScraped?: true;
  /**
   * Local name of the rpc whose roles, limits and metrics apply. A parameter with the same name as the rpc's owner field contains the owned
   * namespace.
   */
  readonly rpc: string;
  /** Maps a parameter to the rpc that applies instead if a request has this parameter. */
  readonly rpcWith?: Readonly<Record<string, string>>;
}

/** The fields of a streaming rpc that its server-sent events use, by the names in its proto. */
export interface EventFields {
  /** Field of a response that contains the id of its event. An event without an id does not change the position of the reader. */
  readonly id: string;
  /** Field of the request that contains the id of the last event that the reader has. */
  readonly resume: string;
  /** Fields of a response. The first one that is set names the event: an enum with its value, another field with its own name. */
  readonly names: readonly string[];
}

/** Returns the name of a route in the proto of its rpc: the path, after the method unless that is GET. */
export function routeName({ path, method }: RouteRow & Partial<Pick<CallRoute, "method">>): string {
  return method === undefined ? path : `${method} ${path}`;
}

/** Returns the rpcs that may apply to requests for a route. */
export function rpcsOf({ rpc, rpcWith = {} }: RouteRow): readonly string[] {
  return [rpc, ...Object.values(rpcWith)];
}

/** Handlers of all methods of a service. The compiler reports an error if a method has no handler. */
export type HandlersOf<D extends DescService> = Readonly<Record<keyof D["method"], MethodHandler>>;

/** A path for HTTP GET that returns the answer of an rpc in its own JSON form. */
export interface HttpRoute extends RouteRow {
  /** Throws `invalid_argument` with the name of the invalid parameter. */
  readonly answer: (parameters: RouteParameters, context: CallContext) => RouteAnswer | Promise<RouteAnswer>;
}

/**
 * A path for HTTP GET that sends the messages of a server-streaming rpc as server-sent events. The parameters are fields of the rpc's request. The
 * route contains no functions, because read workers serve it.
 */
export interface EventRoute extends RouteRow {
  readonly events: EventFields;
  readonly rpcWith?: never;
  readonly answer?: never;
}

/**
 * A path for requests that call a unary rpc. The body contains the rpc's request in JSON. The path contains more fields of the request. The headers
 * `If-Match` and `Idempotency-Key` contain its fields `etag` and `request_id`. The response is the rpc's response in JSON. The route contains no
 * functions, because read workers serve it.
 */
export interface CallRoute extends RouteRow {
  readonly method: "PATCH" | "POST";
  readonly rpcWith?: never;
  readonly answer?: never;
}

/** A route as the main thread sends it to read workers. */
export type SentRoute = RouteRow | EventRoute | CallRoute;

/** A service and its handlers, by the local name of the method (`catalogQuery`). A method without a handler responds with `unimplemented`. */
export interface ServiceDefinition {
  readonly desc: DescService;
  readonly handlers: Readonly<Record<string, MethodHandler>>;
  readonly routes?: readonly (HttpRoute | EventRoute | CallRoute)[];
  /** Largest request in bytes, if this is lower than the listener's limit. */
  readonly maxRequestBytes?: number | undefined;
}

// The access check for resolvers, which read data on behalf of other callers with different rights (semantics.md, Resolver).

/**
 * Throws `unauthenticated` or `discovery_access_denied` for a caller without the role `mesh.resolve`, or if the connection is neither encrypted nor
 * on the loopback interface. `isTls` is true if every connection of the listeners is encrypted.
 */
export function demandResolver(caller: Caller, isTls: boolean): void {
  demandRole(caller, "mesh.resolve");
  if (isTls || isLoopbackHost(caller.address)) return;
  throw new WaymarkError(
    "discovery_access_denied",
    "permission denied: resolvers read entries that policy hides from other callers, so resolvers on other hosts are served over TLS only: set tls.cert_file and tls.key_file on this server",
  );
}

/** The identity of the serving node. `ServerInfo` reports this identity, and the node's entries contain it. */
export interface NodeIdentity {
  readonly version: string;
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
  readonly zone: string;
  readonly roles: readonly string[];
  readonly generation: number;
  readonly boot: string;
  /** Maps a listener name to `host:port`. The map is filled while the node starts. */
  readonly listeners: Readonly<Record<string, string>>;
  readonly startedMonoMs: number;
}
