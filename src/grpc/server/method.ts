/** A method that a server serves: its path, its kind, who answers its calls, and what those may do with a call. Messages are bytes. */
import type { WaymarkError } from "../../lib/errors.ts";
import type { AssemblyBounds, WriteCallback } from "../wire/message-reader.ts";
import type { GrpcMetadata } from "../wire/metadata.ts";
import type { GrpcStatus } from "../wire/status.ts";

interface AnyMethod {
  /** `/package.Service/Method`. */
  readonly path: string;
  /**
   * Called when a call is refused before its handler ran, because its request or its timeout cannot be read or its deadline passed; must
   * end the call. Without it the call ends with the error. Servers that authenticate, limit and count calls do so here as well.
   */
  refused?(error: WaymarkError, call: MethodCall): void;
  /** The bounds for what the call sends, where they differ from the server's; called before anything is read. May throw to refuse the call. */
  boundsFor?(call: MethodCall): AssemblyBounds;
}

/** A method with one request. `handle` may throw to refuse, answer at once, or later. */
export interface SingleRequestMethod extends AnyMethod {
  readonly kind: "unary" | "server_streaming";
  /**
   * Why the call is refused for its headers alone; undefined when its request decides. It is called once for a request that
   * does not arrive in one piece or may be compressed, when its first piece has arrived. While the promise is pending, nothing more is read.
   */
  judgeHeaders?(call: MethodCall): WaymarkError | undefined | Promise<WaymarkError | undefined>;
  handle(request: Uint8Array, call: MethodCall): void;
}

/** A method with a stream of requests. `open` is called when the headers are here, and may throw to refuse. */
export interface RequestStreamMethod extends AnyMethod {
  readonly kind: "client_streaming" | "bidi_streaming";
  open(call: MethodCall): RequestReceiver;
}

export type GrpcMethod = SingleRequestMethod | RequestStreamMethod;

/** Who takes the requests of a stream. What a method of it throws ends the call with that error. */
export interface RequestReceiver {
  /** One request. Call `call.pause()` to be given no more for now. */
  message(request: Uint8Array): void;
  /** The client has sent all its requests. */
  halfClosed(): void;
  /** What came is no request that may come, and no more are given; must end the call. Without it the call ends with the error. */
  failed?(error: WaymarkError): void;
}

/** Why a call ended though its handler did not end it. */
export type Cancellation = "cancelled" | "deadline";

/** What the handler of a method may do with a call. A call that is over takes every order, and does nothing. */
export interface MethodCall {
  readonly method: GrpcMethod;
  /** The connection that it came on, the object that `onConnection` of the server was given. */
  readonly connection: object;
  /** The application's metadata. Throws `invalid_argument` when a binary value is no base64. */
  readonly metadata: GrpcMetadata;
  /** Ms until the deadline, ≤ 0 when it passed; undefined when the client set none. */
  readonly timeoutMs: number | undefined;
  /** Whether the client cancelled or the connection is lost: nothing can be answered any more. */
  readonly isGone: boolean;
  /** Whether the call was ended by us, or is gone. */
  readonly isOver: boolean;
  /** The value of a request header by lower-case name, the protocol's own among them. */
  header(name: string): string | undefined;
  /**
   * `told` is called once when the call ends though its handler did not end it. When its deadline passed the call may still be ended by
   * what is told, with a status of its own.
   */
  onCancelled(told: (why: Cancellation) => void): void;
  /** Takes no requests for now; a stream of requests only. */
  pause(): void;
  /** Takes requests again. */
  resume(): void;
  /** Sends the response headers with metadata. Without it they go with the first message. */
  sendMetadata(metadata?: GrpcMetadata): void;
  /**
   * Writes one message; `taken` is called when HTTP/2 took it, which is when the next should be made. False when the caller should wait
   * for `onceWritable`. Throws `quota_exceeded` for a message over the bound.
   */
  write(message: Uint8Array, taken?: WriteCallback): boolean;
  /** As `write`, of a message that has its prefix already (`framed`), so that several calls may share it. */
  writeFrame(frame: Uint8Array, taken?: WriteCallback): boolean;
  /** Calls `goOn` when the stream takes messages again, never when it went away instead. */
  onceWritable(goOn: () => void): void;
  /** Ends a call with OK and its only message. Throws `quota_exceeded` for a message over the bound. */
  respond(message: Uint8Array, trailers?: GrpcMetadata): void;
  /** Ends the call with OK after what was written. */
  end(trailers?: GrpcMetadata): void;
  /** Ends the call with the status for whatever was thrown. */
  fail(thrown: unknown): void;
  /** Ends the call with a status; in headers alone (Trailers-Only) when nothing was sent before. */
  finish(status: GrpcStatus, metadata?: GrpcMetadata): void;
  /** Ends the call without a status: its stream is reset with an HTTP/2 error code (RFC 9113, section 7). */
  reset(http2Code: number): void;
}
