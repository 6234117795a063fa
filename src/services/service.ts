/** A service as the listeners see it: handlers of messages that know neither gRPC nor Connect. */
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
  /** When the client gives up, in monotonic ms. Absent: it waits for as long as it takes. */
  readonly deadlineMonoMs?: number | undefined;
  /** How good the data is that the call is answered from. Absent: it is what this server holds, and as good. */
  readonly age?: AnswerAge | undefined;
  /** Set by a handler whose work waits: called when the deadline passes, or the client goes away, before the answer. Its answer is then not sent. */
  onOver?: () => void;
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
 * One open server stream. The listener pulls its messages: one is in flight, and the next is pulled in the write callback. A source keeps a
 * cursor and no queue.
 */
export interface StreamSource {
  /** Called once, before the first pull. `wake` tells the listener to pull again. `end` ends the stream after the messages that were pulled. */
  attach(wake: () => void, end: (error: WaymarkError | undefined) => void): void;
  /** The encoded bytes of the next message. Undefined if there is none now: the source calls `wake` later. */
  pull(time: Time): Uint8Array | undefined;
  /** Whether the message that was pulled last was all there was: nothing more is pulled before `wake`. Absent: false. */
  readonly isDrained?: boolean;
  /** Whether the stream ends at once when the server drains. Absent: the source hears of it by itself, and ends after its last message. */
  readonly endsAtDrain?: true;
  /** The stream is over, for whatever reason; called exactly once. */
  close(): void;
}

/** Opens a server stream; throws WaymarkError to refuse. */
export type ServerStreamHandler<I extends Message = Message> = (request: I, context: CallContext) => StreamSource;

/** The handler of a stream of requests answers through this. Calls for a stream that is over do nothing. */
export interface AnswerSink<O extends Message = Message> {
  /**
   * Sends one answer, a message or its encoded bytes. It may be called once the handler has returned its listener. False if the client reads
   * more slowly than answers are sent: the next answer should then wait for `onceRoomy`.
   */
  send(answer: O | Uint8Array): boolean;
  /** Calls `goOn` when the client reads again. It is not called if the client goes away. */
  onceRoomy(goOn: () => void): void;
  /** Stops requests until `resume`. Further requests of the client wait in the flow-control window. */
  pause(): void;
  resume(): void;
  /** Ends the stream with OK after the answers that were sent. */
  end(): void;
  /** Ends the stream with the status for whatever was thrown. */
  fail(thrown: unknown): void;
}

/** Takes the requests of one stream. An error that one of its methods throws ends the stream. */
export interface RequestListener<I extends Message = Message> {
  /** One request, and the time now. */
  message(request: I, time: Time): void;
  /** The client has sent all its requests. */
  halfClosed(): void;
  /** The server drains. The listener ends the stream with this error once all requests are answered. */
  leave(error: WaymarkError): void;
  /** The stream is over, for whatever reason; called exactly once. */
  close(): void;
}

/** Opens a stream of requests, whether it is answered with one message or with many; throws WaymarkError to refuse. */
export type RequestStreamHandler<I extends Message = Message, O extends Message = Message> = (
  answers: AnswerSink<O>,
  context: CallContext,
) => RequestListener<I>;

/** Reads the bytes of a request faster than protobuf-es does, and as it does. Undefined for bytes that it leaves to protobuf-es. */
export type RequestReader = (bytes: Uint8Array) => Message | undefined;

/** The handler of a method, by the kind in its descriptor (`methodKind`). `read` is for methods that are called most. */
export type MethodHandler =
  | {
      readonly kind: "unary";
      readonly handle: UnaryHandler<never>;
      readonly read?: RequestReader | undefined;
      /** Why a request of this size is refused before it is decoded: the service has no memory for its message now. */
      readonly refuseEarly?: (requestBytes: number) => WaymarkError | undefined;
    }
  | { readonly kind: "server_streaming"; readonly open: ServerStreamHandler<never>; readonly read?: RequestReader | undefined }
  | {
      readonly kind: "client_streaming" | "bidi_streaming";
      readonly open: RequestStreamHandler<never>;
      /** Where each request is answered with one message, in order: what answers it. */
      readonly answerOne?: UnaryHandler<never>;
      readonly read?: RequestReader | undefined;
    };

/** The query parameters of a GET request, by name. */
export type RouteParameters = Readonly<Record<string, string>>;

/**
 * The answer of a route. A `page` is one JSON value; `steady` is the part of it that does not change with time and traffic alone, if that is
 * not the whole page. `pieces` are a JSON text that is read over several turns of the event loop, while the catalog may change.
 */
export type RouteAnswer =
  | { readonly kind: "page"; readonly page: JsonValue; readonly steady?: JsonValue }
  | { readonly kind: "pieces"; readonly pieces: Iterable<string> };

/** A path of HTTP GET, of which an rpc says who may ask. A request passes the chain of that rpc. The main thread sends it to read workers. */
export interface RouteRow {
  readonly path: string;
  /** Names of the query parameters that it takes; any other is refused. */
  readonly parameters: readonly string[];
  /** Monitoring programs scrape it, so the setting `observability.metrics_access` applies to it too. */
  readonly isScraped?: true;
  /** Local name of the rpc whose roles, limit and metrics apply. A parameter with the name of the rpc's owner field names the owned namespace. */
  readonly rpc: string;
  /** Another rpc for requests that have a parameter, by the parameter's name. */
  readonly rpcWith?: Readonly<Record<string, string>>;
}

/** The rpcs that may apply to requests of a route. */
export function rpcsOf({ rpc, rpcWith = {} }: RouteRow): readonly string[] {
  return [rpc, ...Object.values(rpcWith)];
}

/** Handlers of all methods of a service: the compiler names a method without one. */
export type HandlersOf<D extends DescService> = Readonly<Record<keyof D["method"], MethodHandler>>;

/** A path of HTTP GET with the answer of an rpc in a form of its own. */
export interface HttpRoute extends RouteRow {
  /** Throws `invalid_argument` naming the parameter. */
  readonly answer: (parameters: RouteParameters, context: CallContext) => RouteAnswer | Promise<RouteAnswer>;
}

/** A service with its handlers by the local name of the method (`catalogQuery`). A method without a handler answers `unimplemented`. */
export interface ServiceDefinition {
  readonly desc: DescService;
  readonly handlers: Readonly<Record<string, MethodHandler>>;
  readonly routes?: readonly HttpRoute[];
  /** Largest request in bytes, if it is smaller than the bound of the listener. */
  readonly maxRequestBytes?: number | undefined;
}

// Who may read as a resolver does: for other callers, whatever each of them may see (semantics.md, Resolver).

/**
 * Throws for a caller without the role, and where others could read along. `isTls`: every connection of the listeners is encrypted. Fails with
 * `unauthenticated` or `discovery_access_denied`.
 */
export function demandResolver(caller: Caller, isTls: boolean): void {
  demandRole(caller, "mesh.resolve");
  if (isTls || isLoopbackHost(caller.address)) return;
  throw new WaymarkError(
    "discovery_access_denied",
    "what resolvers read shows what policy hides from others, so beyond loopback it is served over TLS only: set tls.cert_file and tls.key_file",
  );
}

// Who the serving node is.

/** The serving node. `ServerInfo` tells it, and entries are stamped with it. */
export interface NodeIdentity {
  readonly version: string;
  readonly nodeId: string;
  readonly clusterId: string;
  readonly region: string;
  readonly zone: string;
  readonly roles: readonly string[];
  readonly generation: number;
  readonly boot: string;
  /** Listener name to `host:port`. It is filled while the node starts. */
  readonly listeners: Readonly<Record<string, string>>;
  readonly startedMonoMs: number;
}
