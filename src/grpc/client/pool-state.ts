/**
 * Which connection a pooled call goes over, which one makes room for another, and when one is closed. It does no I/O: connections are
 * numbers here, and the shell (pool.io.ts) opens and closes what they stand for. Times are stall-aware ms (lib/stall-aware-clock.ts).
 */

export interface PoolLimits {
  /** Connections, those that are being opened among them. */
  readonly maxConnections: number;
  /** Calls that wait for an answer, over all connections. */
  readonly maxCalls: number;
  /** A connection without calls is closed after so many ms. */
  readonly idleMs: number;
}

/** Stands for one connection. */
export type ConnectionId = number;

/**
 * Where a call goes. `isNew`: the shell opens the connection. `evicted`: the shell closes that one first. Undefined as a whole: there is
 * no room, and the call is not made.
 */
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

  /** Connections that calls may still go over. */
  get connectionCount(): number {
    return this.#rows.size;
  }

  get callCount(): number {
    return this.#callCount;
  }

  /** Calls that were not made because of a bound. */
  get refusedCount(): number {
    return this.#refusedCount;
  }

  /** Begins a call to an address; `ended` is owed for it. */
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
   * A call is over. One that failed without a word of the server makes its connection doubtful: new calls open another. Returns whether
   * the shell closes the connection now; calls that are open on it go on.
   */
  ended(id: ConnectionId, nowMs: number, hasFailed: boolean): boolean {
    this.#callCount -= 1;
    const row = this.#rows.get(id);
    if (row === undefined) return false;
    row.callCount -= 1;
    row.usedMs = nowMs;
    return hasFailed && this.#forget(id);
  }

  /** The connection takes no more calls, because the server sent it away, or it is lost or could not be opened. */
  left(id: ConnectionId): void {
    this.#forget(id);
  }

  /** Connections that were idle for long by `dueMs`; the shell closes them. */
  sweep(dueMs: number): readonly ConnectionId[] {
    const idle = [...this.#rows].filter(([, row]) => row.callCount === 0 && dueMs - row.usedMs > this.#limits.idleMs).map(([id]) => id);
    for (const id of idle) this.#forget(id);
    return idle;
  }

  /** All connections; the shell closes them, and calls from now on open new ones (certificates have changed). */
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
