/** What a service is to the listeners: handlers over messages, knowing neither grpc-js nor Connect. */
import type { DescService, Message } from "@bufbuild/protobuf";
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

/** A bidi method with one answer a request, in order. The context's time is refreshed per message. */
export type EchoStreamHandler<I extends Message = Message, O extends Message = Message> = UnaryHandler<I, O>;

export type Handler =
  | { readonly kind: "unary"; readonly handle: UnaryHandler<never> }
  | { readonly kind: "serverStream"; readonly open: ServerStreamHandler<never> }
  | { readonly kind: "echoStream"; readonly handle: EchoStreamHandler<never> };

/** A service and its handlers by method local name (`catalogQuery`); a method without one answers `unimplemented`. */
export interface Service {
  readonly desc: DescService;
  readonly handlers: Readonly<Record<string, Handler>>;
}
