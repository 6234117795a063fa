/**
 * The streams of a resolver at its upstream servers. Those at one server share a connection, so that a policy comes before what is made under it, and a second
 * watch needs no second greeting.
 */
import type { CallResult, ClientCall } from "../../grpc/client/client-call.ts";
import type { ClientConnection } from "../../grpc/client/connection.io.ts";
import type { PendingConnection } from "../../grpc/client/pool.io.ts";
import type { GrpcMetadata } from "../../grpc/wire/metadata.ts";
import { CODES, WaymarkError } from "../../lib/errors.ts";
import { type StallAwareTimeout, stallAwareTimeout } from "../../lib/stall-aware-time.io.ts";
import type { WatchRefusal } from "../../resolver/watching/refusals.ts";
import { refusalOf, watchRefusalOf } from "./upstream-codec.ts";

export interface StreamEvents {
  /** A message, in the turn in which it came: the next one comes when this returns, and not more is read than was taken. It was sent at most `delayMs` ago. */
  said(bytes: Uint8Array, delayMs: number): void;
  /** The stream ended or failed, or was never open. Called once, last, in a later turn than the opening. `refusal`: the server will not tell of what was asked for. */
  ended(error: WaymarkError, refusal?: WatchRefusal): void;
}

/** A stream that was asked for. */
export interface UpstreamStreamHandle {
  /** Ends it. Nothing more is told. */
  close(): void;
}

export interface StreamRequest {
  readonly upstream: string;
  readonly path: string;
  readonly message: Uint8Array;
  readonly metadata: GrpcMetadata | undefined;
}

/** From the order to the first message. A server that takes a stream says at once where it is. */
const FIRST_MESSAGE_MS = 10_000;
const DIAL_MS = 5000;

interface SharedConnection {
  readonly dial: PendingConnection;
  readonly streams: Set<UpstreamStream>;
  connection: ClientConnection | undefined;
}

/** `open` opens a connection; `onLeaving` is told when it takes no more streams. */
export type OpenShared = (upstream: string, timeoutMs: number, onLeaving: () => void) => PendingConnection;

export class UpstreamStreams {
  readonly #open: OpenShared;
  readonly #current = new Map<string, SharedConnection>();
  /** Those that take no more streams, until theirs are over. */
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

  /** Closes connections that have no streams any more; called a few times a second. */
  sweep(): void {
    for (const [upstream, shared] of this.#current) if (shared.streams.size === 0) this.#leave(upstream, shared);
    for (const shared of this.#leaving) if (shared.streams.size === 0) this.#cut(shared);
  }

  /** Streams from now on use new connections: certificates have changed. */
  renew(): void {
    for (const [upstream, shared] of this.#current) this.#leave(upstream, shared);
  }

  /** Cuts everything. Nothing more is told. */
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
      () => this.fail(new WaymarkError("deadline_exceeded", `the upstream ${this.#request.upstream} says nothing on a new stream`)),
      FIRST_MESSAGE_MS,
    );
  }

  begin(connection: ClientConnection): void {
    if (this.#isOver) return;
    const { path, message, metadata } = this.#request;
    const listener = {
      message: (bytes: Uint8Array) => this.#said(bytes, connection.delayMs),
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

  #said(bytes: Uint8Array, delayMs: number): void {
    this.#timer.clear();
    if (!this.#isOver) this.#events.said(bytes, delayMs);
  }

  #closed({ status, isFromServer }: CallResult): void {
    const { upstream } = this.#request;
    if (status.code === CODES.OK) this.fail(new WaymarkError("not_ready", `the upstream ${upstream} ended the stream`));
    else this.fail(refusalOf(upstream, status, isFromServer), isFromServer ? watchRefusalOf(status) : undefined);
  }
}

/** No connection could be opened. */
function unreached(upstream: string, error: unknown): WaymarkError {
  return new WaymarkError(
    "not_ready",
    `the upstream ${upstream} is not reached: ${error instanceof Error ? error.message : "no connection"}`,
  );
}
