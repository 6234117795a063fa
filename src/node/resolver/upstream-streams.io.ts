/**
 * The streams of a resolver to its upstream servers. Streams to the same server share a connection, so that a policy arrives before the data that was
 * made under it, and a second watch does not need a second handshake.
 */
import type { CallResult, ClientCall } from "../../grpc/client/client-call.ts";
import type { ClientConnection } from "../../grpc/client/connection.io.ts";
import type { PendingConnection } from "../../grpc/client/pool.io.ts";
import type { GrpcMetadata } from "../../grpc/wire/metadata.ts";
import { CODES, WaymarkError } from "../../lib/errors.ts";
import { type StallAwareTimeout, stallAwareTimeout } from "../../lib/stall-aware-time.io.ts";
import type { WatchRefusal } from "../../resolver/watching/prefix-refusals.ts";
import { refusalOf, watchRefusalOf } from "./upstream-codec.ts";

export interface StreamEvents {
  /**
   * Called for each message when it arrives. The next message is delivered only after this function returns, and flow control slows down the server
   * accordingly. The message was sent at most `delayMs` ago.
   */
  received(bytes: Uint8Array, delayMs: number): void;
  /**
   * Called once, as the last event, when the stream ended, failed or could not be opened. Never called during the call that opens the stream.
   * `refusal`: why the server refused the watched prefixes, if it did.
   */
  ended(error: WaymarkError, refusal?: WatchRefusal): void;
}

/** A stream that was requested. */
export interface UpstreamStreamHandle {
  /** Ends the stream. After this call there are no more events. */
  close(): void;
}

export interface StreamRequest {
  readonly upstream: string;
  readonly path: string;
  readonly message: Uint8Array;
  readonly metadata: GrpcMetadata | undefined;
}

/** Timeout from the request until the first message, in ms. A server that accepts a stream sends its position immediately. */
const FIRST_MESSAGE_MS = 10_000;
const DIAL_MS = 5000;

interface SharedConnection {
  readonly dial: PendingConnection;
  readonly streams: Set<UpstreamStream>;
  connection: ClientConnection | undefined;
}

/** Opens a connection. `onLeaving` is called when the connection stops accepting new streams. */
export type OpenShared = (upstream: string, timeoutMs: number, onLeaving: () => void) => PendingConnection;

export class UpstreamStreams {
  readonly #open: OpenShared;
  readonly #current = new Map<string, SharedConnection>();
  /** Connections that no longer accept new streams. The connections are kept until their streams end. */
  readonly #leaving = new Set<SharedConnection>();

  constructor(open: OpenShared) {
    this.#open = open;
  }

  open(request: StreamRequest, events: StreamEvents): UpstreamStreamHandle {
    const shared = this.#current.get(request.upstream) ?? this.#dial(request.upstream);
    const stream = new UpstreamStream(request, events, () => shared.streams.delete(stream));
    shared.streams.add(stream);
    shared.dial.done.then(
      (connection) => stream.begin(connection),
      (error: unknown) => stream.fail(unreached(request.upstream, error)),
    );
    return stream;
  }

  /** Closes connections without streams. Must be called a few times per second. */
  sweep(): void {
    for (const [upstream, shared] of this.#current) if (shared.streams.size === 0) this.#leave(upstream, shared);
    for (const shared of this.#leaving) if (shared.streams.size === 0) this.#cut(shared);
  }

  /** Makes new streams use new connections, because certificates have changed. */
  renew(): void {
    for (const [upstream, shared] of this.#current) this.#leave(upstream, shared);
  }

  /** Closes all connections. After this call there are no more events. */
  close(): void {
    this.renew();
    for (const shared of this.#leaving) {
      for (const stream of shared.streams) stream.close();
      this.#cut(shared);
    }
  }

  #dial(upstream: string): SharedConnection {
    const dial = this.#open(upstream, DIAL_MS, () => this.#leave(upstream, shared));
    const shared: SharedConnection = { dial, streams: new Set(), connection: undefined };
    this.#current.set(upstream, shared);
    const adopt = (connection: ClientConnection) => {
      shared.connection = connection;
      connection.unref();
    };
    dial.done.then(adopt, () => this.#leave(upstream, shared));
    return shared;
  }

  #leave(upstream: string, shared: SharedConnection): void {
    if (this.#current.get(upstream) !== shared) return;
    this.#current.delete(upstream);
    this.#leaving.add(shared);
  }

  #cut(shared: SharedConnection): void {
    this.#leaving.delete(shared);
    shared.dial.cancel();
    shared.connection?.destroy();
  }
}

class UpstreamStream implements UpstreamStreamHandle {
  readonly #request: StreamRequest;
  readonly #events: StreamEvents;
  readonly #forget: () => void;
  readonly #timer: StallAwareTimeout;
  #call: ClientCall | undefined;
  #isOver = false;

  constructor(request: StreamRequest, events: StreamEvents, forget: () => void) {
    this.#request = request;
    this.#events = events;
    this.#forget = forget;
    this.#timer = stallAwareTimeout(
      () =>
        this.fail(new WaymarkError("deadline_exceeded", `the upstream ${this.#request.upstream} did not send any message on a new stream`)),
      FIRST_MESSAGE_MS,
    );
  }

  begin(connection: ClientConnection): void {
    if (this.#isOver) return;
    const { path, message, metadata } = this.#request;
    const listener = {
      message: (bytes: Uint8Array) => this.#received(bytes, connection.delayMs),
      closed: (result: CallResult) => this.#closed(result),
    };
    this.#call = connection.start({ path, isSingleResponse: false, metadata }, listener);
    this.#call.halfClose(message);
  }

  fail(error: WaymarkError, refusal?: WatchRefusal): void {
    if (this.#isOver) return;
    this.close();
    this.#events.ended(error, refusal);
  }

  close(): void {
    this.#isOver = true;
    this.#timer.clear();
    this.#forget();
    this.#call?.cancel();
  }

  #received(bytes: Uint8Array, delayMs: number): void {
    this.#timer.clear();
    if (!this.#isOver) this.#events.received(bytes, delayMs);
  }

  #closed({ status, isFromServer }: CallResult): void {
    const { upstream } = this.#request;
    if (status.code === CODES.OK) this.fail(new WaymarkError("not_ready", `the upstream ${upstream} ended the stream`));
    else this.fail(refusalOf(upstream, status, isFromServer), isFromServer ? watchRefusalOf(status) : undefined);
  }
}

/** The error if no connection could be opened. */
function unreached(upstream: string, error: unknown): WaymarkError {
  return new WaymarkError(
    "not_ready",
    `the upstream ${upstream} cannot be reached: ${error instanceof Error ? error.message : "no connection"}`,
  );
}
