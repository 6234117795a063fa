/**
 * Defines a method that a server serves: its path, its kind, its handler, and the operations that the handler can perform on a call. Messages are
 * bytes.
 */
import type { WaymarkError } from "../../lib/errors.ts";
import type { AssemblyBounds, WriteCallback } from "../wire/message-reader.ts";
import type { GrpcMetadata } from "../wire/metadata.ts";
import type { GrpcStatus } from "../wire/status.ts";

interface AnyMethod {
  /** `/package.Service/Method`. */
  readonly path: string;
  /** Whether calls of the method wait for other calls while the server is busy. */
  readonly isLowPriority?: boolean;
  /**
   * Called when a call is rejected before its handler has run, because its request or timeout cannot be read or its deadline has passed. It must end
   * the call. If absent, the call ends with the error. Servers also authenticate, rate-limit and count such calls in this function.
   */
  refused?(error: WaymarkError, call: MethodCall): void;
  /**
   * Returns the limits for the call's request, if they differ from the server's limits. Called before anything is read. May throw to
   * reject the call.
   */
  boundsFor?(call: MethodCall): AssemblyBounds;
}

/** A method with one request. */
export interface SingleRequestMethod extends AnyMethod {
  readonly kind: "unary" | "server_streaming";
  /**
   * Returns the error if the headers alone are a reason to reject the call, or undefined if the request must be read first. Called once, when the
   * first part of a request that is incomplete or may be compressed has arrived. While the promise is pending, no more data is read.
   */
  judgeHeaders?(call: MethodCall): WaymarkError | undefined | Promise<WaymarkError | undefined>;
  handle(request: Uint8Array, call: MethodCall): void;
}

/** A method with a stream of requests. `open` is called when the headers have arrived, and may throw to reject the call. */
export interface RequestStreamMethod extends AnyMethod {
  readonly kind: "client_streaming" | "bidi_streaming";
  open(call: MethodCall): RequestReceiver;
}

export type GrpcMethod = SingleRequestMethod | RequestStreamMethod;

/** Receives the requests of a stream. If one of the methods throws an error, the call ends with that error. */
export interface RequestReceiver {
  /** Receives one request. To stop delivery, call `call.pause()`. */
  message(request: Uint8Array): void;
  /** Called when the client has sent all its requests. */
  halfClosed(): void;
  /** Called when the received bytes are not a valid request, so delivery has ended. It must end the call. If absent, the call ends with the error. */
  failed?(error: WaymarkError): void;
}

/** Why a call ended before its handler ended it. */
export type Cancellation = "cancelled" | "deadline";

/** The operations that a method's handler can perform on a call. If the call is over, they do nothing. */
export interface MethodCall {
  readonly method: GrpcMethod;
  /** The call's connection: the object that was passed to the server's `onConnection`. */
  readonly connection: object;
  /** The application's metadata. Throws `invalid_argument` if a binary value is not base64. */
  readonly metadata: GrpcMetadata;
  /** Ms until the deadline; ≤ 0 if the deadline has passed. Undefined if the client did not set a deadline. */
  readonly timeoutMs: number | undefined;
  /** Whether the client has cancelled the call or the connection is lost. In both cases, responses can no longer be sent. */
  readonly isGone: boolean;
  /** Whether the server has ended the call, or the stream is closed. */
  readonly isOver: boolean;
  /** Returns the value of a request header, given its lower-case name. Headers of the protocol are included. */
  header(name: string): string | undefined;
  /**
   * Registers a function that is called once if the call ends before its handler ends it. If the deadline has passed, that function may still end the
   * call with its own status.
   */
  onCancelled(listener: (why: Cancellation) => void): void;
  /** Stops delivering requests. Used only for a stream of requests. */
  pause(): void;
  /** Delivers requests again. */
  resume(): void;
  /** Sends the response headers with metadata. If this method is not called, the headers are sent with the first message. */
  sendMetadata(metadata?: GrpcMetadata): void;
  /**
   * Writes one message. `taken` is called when HTTP/2 has accepted the message, which is the time to create the next message. Returns false if the
   * caller should wait for `onceWritable`. Throws `quota_exceeded` if the message exceeds the limit.
   */
  write(message: Uint8Array, taken?: WriteCallback): boolean;
  /** Like `write`, for a message that already has its prefix (`framed`), so that several calls can share it. */
  writeFrame(frame: Uint8Array, taken?: WriteCallback): boolean;
  /** Calls `goOn` when the stream is writable again. It is not called if the stream closes first. */
  onceWritable(goOn: () => void): void;
  /** Ends a call with OK and its only message. Throws `quota_exceeded` if the message exceeds the limit. */
  respond(message: Uint8Array, trailers?: GrpcMetadata): void;
  /** Ends the call with OK after the written messages. */
  end(trailers?: GrpcMetadata): void;
  /** Ends the call with the status for a thrown value. */
  fail(thrown: unknown): void;
  /** Ends the call with a status. If nothing has been sent yet, the status is sent in headers only (Trailers-Only). */
  finish(status: GrpcStatus, metadata?: GrpcMetadata): void;
  /** Ends the call without a status: resets its stream with an HTTP/2 error code (RFC 9113, section 7). */
  reset(http2Code: number): void;
}
