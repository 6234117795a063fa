/**
 * Decides which connection a pooled call uses, which connection is evicted for another, and when a connection is closed. This module does not perform
 * I/O: it identifies connections by number, and the shell (pool.io.ts) opens and closes them. Times are stall-aware ms (lib/stall-aware-clock.ts).
 */

export interface PoolLimits {
  /** Maximum number of connections, including connections that are being opened. */
  readonly maxConnections: number;
  /** Maximum number of calls that are waiting for a response, over all connections. */
  readonly maxCalls: number;
  /** A connection without calls is closed after this time. */
  readonly idleMs: number;
}

/** Identifies one connection. */
export type ConnectionId = number;

/** The connection for a call. If `isNew`, the shell opens it. If `evicted` is set, the shell closes that connection first. */
export interface CallPlacement {
  readonly id: ConnectionId;
  readonly isNew: boolean;
  readonly evicted: ConnectionId | undefined;
}

interface PooledConnection {
  readonly address: string;
  callCount: number;
  usedMs: number;
}

export class PoolState {
  readonly #limits: PoolLimits;
  readonly #rows = new Map<ConnectionId, PooledConnection>();
  readonly #byAddress = new Map<string, ConnectionId>();
  #nextId = 1;
  #callCount = 0;
  #refusedCount = 0;

  constructor(limits: PoolLimits) {
    this.#limits = limits;
  }

  /** Connections that accept calls. */
  get connectionCount(): number {
    return this.#rows.size;
  }

  get callCount(): number {
    return this.#callCount;
  }

  /** Number of calls that were rejected because of a limit. */
  get refusedCount(): number {
    return this.#refusedCount;
  }

  /**
   * Starts a call to an address. The caller must call `ended` when it is over. Returns undefined if a limit has been reached. In that case, the call
   * must not be made.
   */
  place(address: string, nowMs: number): CallPlacement | undefined {
    const placement = this.#callCount < this.#limits.maxCalls ? this.#find(address, nowMs) : undefined;
    const row = placement === undefined ? undefined : this.#rows.get(placement.id);
    if (placement === undefined || row === undefined) {
      this.#refusedCount += 1;
      return undefined;
    }
    this.#callCount += 1;
    row.callCount += 1;
    row.usedMs = nowMs;
    return placement;
  }

  /**
   * Ends a call. If the call failed without a response from the server, the connection is considered unreliable, and new calls open another
   * connection. Returns whether the shell must close the connection now. Other open calls on the connection continue.
   */
  ended(id: ConnectionId, nowMs: number, hasFailed: boolean): boolean {
    this.#callCount -= 1;
    const row = this.#rows.get(id);
    if (row === undefined) return false;
    row.callCount -= 1;
    row.usedMs = nowMs;
    return hasFailed && this.#forget(id);
  }

  /**
   * Removes a connection that no longer accepts calls, because the server sent GOAWAY or because the connection was lost or could not be opened.
   */
  left(id: ConnectionId): void {
    this.#forget(id);
  }

  /** Removes and returns the connections that have been idle for too long at `dueMs`. The shell closes them. */
  sweep(dueMs: number): readonly ConnectionId[] {
    const idle = [...this.#rows].filter(([, row]) => row.callCount === 0 && dueMs - row.usedMs > this.#limits.idleMs).map(([id]) => id);
    for (const id of idle) this.#forget(id);
    return idle;
  }

  /** Removes and returns all connections because certificates have changed. The shell closes them, and new calls open new ones. */
  renew(): readonly ConnectionId[] {
    const all = [...this.#rows.keys()];
    for (const id of all) this.#forget(id);
    return all;
  }

  #find(address: string, nowMs: number): CallPlacement | undefined {
    const known = this.#byAddress.get(address);
    if (known !== undefined) return { id: known, isNew: false, evicted: undefined };
    const isFull = this.#rows.size >= this.#limits.maxConnections;
    const evicted = isFull ? this.#longestIdle() : undefined;
    if (isFull && evicted === undefined) return undefined;
    if (evicted !== undefined) this.#forget(evicted);
    const id = this.#nextId;
    this.#nextId += 1;
    this.#rows.set(id, { address, callCount: 0, usedMs: nowMs });
    this.#byAddress.set(address, id);
    return { id, isNew: true, evicted };
  }

  #longestIdle(): ConnectionId | undefined {
    let oldest: { readonly id: ConnectionId; readonly usedMs: number } | undefined;
    for (const [id, { callCount, usedMs }] of this.#rows) {
      if (callCount === 0 && (oldest === undefined || usedMs < oldest.usedMs)) oldest = { id, usedMs };
    }
    return oldest?.id;
  }

  #forget(id: ConnectionId): boolean {
    const row = this.#rows.get(id);
    if (row === undefined) return false;
    this.#rows.delete(id);
    this.#byAddress.delete(row.address);
    return true;
  }
}
