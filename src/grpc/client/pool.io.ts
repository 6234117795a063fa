/**
 * Makes unary calls to many servers over a limited number of connections, which are opened on demand. pool-state.ts chooses the connection.
 */
import { CODES } from "../../lib/errors.ts";
import { stallAwareNowMs, stallAwareTimeout } from "../../lib/stall-aware-time.io.ts";
import { GrpcMetadata } from "../wire/metadata.ts";
import type { StatusCode } from "../wire/status.ts";
import type { ClientCall } from "./client-call.ts";
import type { ClientConnection } from "./connection.io.ts";
import { type ConnectionId, type PoolLimits, PoolState } from "./pool-state.ts";
import { callUnary, type UnaryAnswer, type UnaryRequest } from "./unary.ts";

/** A connection that is being opened. */
export interface PendingConnection {
  /** Rejects with a human-readable reason if the connection cannot be opened. */
  readonly done: Promise<ClientConnection>;
  /** Stops opening the connection, so the promise rejects. */
  cancel(): void;
}

/**
 * Opens a connection to an address within `timeoutMs`. Pass `onLeaving` to the connection, which calls it when it stops accepting calls.
 */
export type OpenConnection = (address: string, timeoutMs: number, onLeaving: () => void) => PendingConnection;

export interface PooledRequest extends UnaryRequest {
  readonly address: string;
  /** Time limit for the call, including the time to open its connection if needed. */
  readonly timeoutMs: number;
}

/** The result of a pooled call and its connection, or the reason why there was no connection. */
export interface PooledAnswer extends UnaryAnswer {
  readonly connection: ClientConnection | undefined;
  /** The error with which `OpenConnection` rejected. */
  readonly dialError: unknown;
}

/** Time that open calls have to finish after the pool has removed their connection. After that the connection is closed. */
const DRAIN_MS = 60_000;

interface PoolSlot {
  readonly dial: PendingConnection;
  connection: ClientConnection | undefined;
}

export class ConnectionPool {
  readonly #state: PoolState;
  readonly #open: OpenConnection;
  readonly #slots = new Map<ConnectionId, PoolSlot>();

  constructor(limits: PoolLimits, open: OpenConnection) {
    this.#state = new PoolState(limits);
    this.#open = open;
  }

  /** Returns the counts for metrics. */
  counts(): { readonly connections: number; readonly calls: number; readonly refused: number } {
    return { connections: this.#state.connectionCount, calls: this.#state.callCount, refused: this.#state.refusedCount };
  }

  /**
   * Makes a call. `done` is called once. A call that the server did not process (GOAWAY, REFUSED_STREAM) is retried once on another connection within
   * the remaining time, even if its method is not idempotent.
   */
  call(request: PooledRequest, done: (answer: PooledAnswer) => void): void {
    const untilMs = stallAwareNowMs() + request.timeoutMs;
    this.#attempt(request, (first) => {
      const leftMs = untilMs - stallAwareNowMs();
      if (first.isUnprocessed && first.connection !== undefined && leftMs > 0) this.#attempt({ ...request, timeoutMs: leftMs }, done);
      else done(first);
    });
  }

  /** Closes connections that have been idle for too long at `dueMs` (`stallAwareDueMs`). Called a few times per second. */
  sweep(dueMs: number): void {
    for (const id of this.#state.sweep(dueMs)) this.#close(id);
  }

  /** Makes new calls use new connections, because certificates have changed. */
  renew(): void {
    for (const id of this.#state.renew()) this.#close(id);
  }

  #attempt(request: PooledRequest, done: (answer: PooledAnswer) => void): void {
    const placement = this.#state.place(request.address, stallAwareNowMs());
    if (placement === undefined) {
      done(withoutConnection(CODES.RESOURCE_EXHAUSTED, "too many open calls or connections to other servers; retry later", undefined));
      return;
    }
    const { id, isNew, evicted } = placement;
    if (evicted !== undefined) this.#close(evicted);
    const slot = isNew ? this.#dial(id, request) : this.#slots.get(id);
    if (slot === undefined) return; // A placement on an existing connection always has a slot.
    let call: ClientCall | undefined;
    let isOver = false;
    const over = (answer: PooledAnswer) => {
      if (isOver) return;
      isOver = true;
      timer.clear();
      call?.cancel();
      if (this.#state.ended(id, stallAwareNowMs(), !answer.isFromServer)) this.#close(id);
      done(answer);
    };
    const { timeoutMs } = request;
    const startedMs = stallAwareNowMs();
    const timer = stallAwareTimeout(
      () => over(withoutConnection(CODES.DEADLINE_EXCEEDED, `no response within ${timeoutMs} ms`, undefined)),
      timeoutMs,
    );
    const send = (connection: ClientConnection) => {
      if (isOver) return;
      const leftMs = Math.max(1, timeoutMs - (stallAwareNowMs() - startedMs));
      call = callUnary(connection, { ...request, timeoutMs: leftMs }, (answer) => over({ ...answer, connection, dialError: undefined }));
    };
    slot.dial.done.then(send, (error: unknown) =>
      over(withoutConnection(CODES.UNAVAILABLE, error instanceof Error ? error.message : "the connection could not be opened", error)),
    );
  }

  #dial(id: ConnectionId, { address, timeoutMs }: PooledRequest): PoolSlot {
    const dial = this.#open(address, timeoutMs, () => {
      this.#state.left(id);
      this.#slots.delete(id);
    });
    const slot: PoolSlot = { dial, connection: undefined };
    this.#slots.set(id, slot);
    const adopt = (connection: ClientConnection) => {
      slot.connection = connection;
      connection.unref();
      if (!this.#slots.has(id)) drain(connection); // The pool removed the connection while it was being opened.
    };
    const forget = () => {
      this.#state.left(id);
      this.#slots.delete(id);
    };
    dial.done.then(adopt, forget);
    return slot;
  }

  #close(id: ConnectionId): void {
    const slot = this.#slots.get(id);
    this.#slots.delete(id);
    if (slot?.connection === undefined) slot?.dial.cancel();
    else drain(slot.connection);
  }
}

/** Closes a connection when its calls have ended, but after `DRAIN_MS` at the latest. */
function drain(connection: ClientConnection): void {
  connection.close();
  if (connection.callCount === 0) connection.destroy();
  else setTimeout(() => connection.destroy(), DRAIN_MS).unref();
}

function withoutConnection(code: StatusCode, message: string, dialError: unknown): PooledAnswer {
  return {
    status: { code, message },
    message: undefined,
    metadata: new GrpcMetadata(),
    trailers: new GrpcMetadata(),
    isFromServer: false,
    isUnprocessed: true,
    isMalformed: false,
    connection: undefined,
    dialError,
  };
}
