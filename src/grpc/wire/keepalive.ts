/**
 * Decides when a quiet connection is pinged and when a peer that does not answer is considered dead (gRPC's keepalive.md). The caller
 * passes the time.
 */

export interface KeepaliveLimits {
  /** A connection is pinged if no data has arrived on it for this time. */
  readonly keepaliveTimeMs: number;
  /** A peer is considered dead if no data arrives for this time after a ping. */
  readonly keepaliveTimeoutMs: number;
}

/** The action that the shell must take: send a PING, or close the connection to a dead peer. */
export type KeepaliveOrder = "ping" | "dead";

export class Keepalive {
  readonly #limits: KeepaliveLimits;
  #bytesRead = 0;
  #receivedMs: number;
  #pingedMs: number | undefined;

  constructor(limits: KeepaliveLimits, nowMs: number) {
    this.#limits = limits;
    this.#receivedMs = nowMs;
  }

  /**
   * Compares the current time with the limits. Called a few times per second. Times are stall-aware ms (lib/stall-aware-clock.ts): silence begins at
   * `nowMs` and has lasted until `dueMs`. Any received byte, including the answer to a ping, proves that the peer is alive.
   */
  check({
    nowMs,
    dueMs,
    bytesRead,
  }: {
    readonly nowMs: number;
    readonly dueMs: number;
    readonly bytesRead: number;
  }): KeepaliveOrder | undefined {
    if (bytesRead !== this.#bytesRead) {
      this.#bytesRead = bytesRead;
      this.#receivedMs = nowMs;
      this.#pingedMs = undefined;
      return undefined;
    }
    if (this.#pingedMs !== undefined) return dueMs - this.#pingedMs > this.#limits.keepaliveTimeoutMs ? "dead" : undefined;
    if (dueMs - this.#receivedMs < this.#limits.keepaliveTimeMs) return undefined;
    this.#pingedMs = nowMs;
    return "ping";
  }
}
