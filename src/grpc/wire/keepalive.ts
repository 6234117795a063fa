/** When a quiet connection is pinged, and when a peer that does not answer is given up (gRPC's keepalive.md). Times come in as values. */

export interface KeepaliveLimits {
  /** A connection on which nothing came for so many ms is pinged. */
  readonly keepaliveTimeMs: number;
  /** A peer that answers nothing for so many ms after a ping is given up. */
  readonly keepaliveTimeoutMs: number;
}

/** What the shell must do: send a PING, or give the peer up. */
export type KeepaliveOrder = "ping" | "dead";

export class Keepalive {
  readonly #limits: KeepaliveLimits;
  #bytesRead = 0;
  #heardMs: number;
  #pingedMs: number | undefined;

  constructor(limits: KeepaliveLimits, nowMs: number) {
    this.#limits = limits;
    this.#heardMs = nowMs;
  }

  /**
   * Looks at the clock; called a few times a second. Times are stall-aware ms (lib/stall-aware-clock.ts): silence begins at `nowMs` and lasted until
   * `dueMs`. Anything that was read proves that the peer lives, the answer to a ping among it.
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
      this.#heardMs = nowMs;
      this.#pingedMs = undefined;
      return undefined;
    }
    if (this.#pingedMs !== undefined) return dueMs - this.#pingedMs > this.#limits.keepaliveTimeoutMs ? "dead" : undefined;
    if (dueMs - this.#heardMs < this.#limits.keepaliveTimeMs) return undefined;
    this.#pingedMs = nowMs;
    return "ping";
  }
}
