/** Unary calls to many servers over a bounded number of connections, opened when a call needs one. pool-state.ts decides which. */
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
  /** Rejects with why there is none, for people. */
  readonly done: Promise<ClientConnection>;
  /** Gives it up; the promise is rejected. */
  cancel(): void;
}

/**
 * Opens a connection to an address within so many ms. `onLeaving` must be handed to the connection, which calls it when it takes no
 * more calls.
 */
export type OpenConnection = (address: string, timeoutMs: number, onLeaving: () => void) => PendingConnection;

export interface PooledRequest extends UnaryRequest {
  readonly address: string;
  /** For the call and, where it needs one, for opening its connection, together. */
  readonly timeoutMs: number;
}

/** What came of a pooled call, over which connection, and why there was none. */
export interface PooledAnswer extends UnaryAnswer {
  readonly connection: ClientConnection | undefined;
  /** What `OpenConnection` rejected with. */
  readonly dialError: unknown;
}

/** Calls that are open when their connection is dropped have so many ms, and then it is cut. */
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

  /** Counts, for metrics. */
  counts(): { readonly connections: number; readonly calls: number; readonly refused: number } {
    return { connections: this.#state.connectionCount, calls: this.#state.callCount, refused: this.#state.refusedCount };
  }

  /**
   * Makes a call; `done` is called once. A call that the server did not begin (GOAWAY, REFUSED_STREAM) is made a second time over
   * another connection, with what is left of its time, whatever its method does.
   */
  call(request: PooledRequest, done: (answer: PooledAnswer) => void): void {
    const untilMs = stallAwareNowMs() + request.timeoutMs;
    this.#attempt(request, (first) => {
      const leftMs = untilMs - stallAwareNowMs();
      if (first.isUnprocessed && first.connection !== undefined && leftMs > 0) this.#attempt({ ...request, timeoutMs: leftMs }, done);
      else done(first);
    });
  }

  /** Closes connections that were idle for long, by `stallAwareDueMs`; called a few times a second. */
  sweep(dueMs: number): void {
    for (const id of this.#state.sweep(dueMs)) this.#close(id);
  }

  /** New calls use new connections: certificates have changed. */
  renew(): void {
    for (const id of this.#state.renew()) this.#close(id);
  }

  #attempt(request: PooledRequest, done: (answer: PooledAnswer) => void): void {
    const placement = this.#state.place(request.address, stallAwareNowMs());
    if (placement === undefined) {
      done(withoutConnection(CODES.RESOURCE_EXHAUSTED, "too many calls or connections are open", undefined));
      return;
    }
    const { id, isNew, evicted } = placement;
    if (evicted !== undefined) this.#close(evicted);
    const slot = isNew ? this.#dial(id, request) : this.#slots.get(id);
    if (slot === undefined) return; // A placement that is not new has its slot.
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
    const timer = stallAwareTimeout(() => over(withoutConnection(CODES.DEADLINE_EXCEEDED, "no answer in time", undefined)), timeoutMs);
    const send = (connection: ClientConnection) => {
      if (isOver) return;
      const leftMs = Math.max(1, timeoutMs - (stallAwareNowMs() - startedMs));
      call = callUnary(connection, { ...request, timeoutMs: leftMs }, (answer) => over({ ...answer, connection, dialError: undefined }));
    };
    slot.dial.done.then(send, (error: unknown) =>
      over(withoutConnection(CODES.UNAVAILABLE, error instanceof Error ? error.message : "no connection", error)),
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
      if (!this.#slots.has(id)) drain(connection); // Dropped while it was opened.
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

/** Closes a connection when its calls are over, at the latest after a while. */
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
