/** Decides when a connection is pinged, when it is closed because it is idle or old, and when it is destroyed (gRPC's keepalive.md). */
import { Keepalive, type KeepaliveLimits } from "../wire/keepalive.ts";

export interface LifetimeLimits extends KeepaliveLimits {
  /** A connection that has had no open call for this time gets GOAWAY. gRPC clients reconnect at their next call. */
  readonly idleTimeoutMs: number;
  /** A connection gets GOAWAY at this age ± 10 %, so that clients are rebalanced across the servers. 0 means never. */
  readonly maxConnectionAgeMs: number;
  /** Grace period for open calls after a GOAWAY that was sent because of the connection's age. */
  readonly maxConnectionAgeGraceMs: number;
}

/** Keeps a connection open for as long as its client wants. */
export const ENDLESS: LifetimeLimits = {
  keepaliveTimeMs: Number.POSITIVE_INFINITY,
  keepaliveTimeoutMs: Number.POSITIVE_INFINITY,
  idleTimeoutMs: Number.POSITIVE_INFINITY,
  maxConnectionAgeMs: 0,
  maxConnectionAgeGraceMs: 0,
};

/**
 * The action that the shell must take. `close`: send a GOAWAY with the last processed stream, and close the connection when its open streams have
 * ended. `cut`: destroy the connection.
 *
 * A call that crosses the GOAWAY on the wire is not processed, and clients retry it on another connection (RFC 9113, section 6.8). An initial GOAWAY
 * that does not reject any streams would not help: nghttp2 does not accept new streams after any GOAWAY. If no stream is open, Node.js then stops
 * reading, so not even the answer to a PING or the client's FIN is received.
 */
export type LifetimeOrder = "ping" | "close" | "cut";

/** The shell's measurements of a connection. Times are stall-aware ms (lib/stall-aware-clock.ts). */
export interface LifetimeSample {
  readonly nowMs: number;
  readonly dueMs: number;
  readonly bytesRead: number;
  readonly openStreams: number;
  /** Number of streams opened since the connection began. */
  readonly streamCount: number;
}

export class ConnectionLifetime {
  readonly #limits: LifetimeLimits;
  readonly #keepalive: Keepalive;
  readonly #maxAgeMs: number;
  readonly #openedMs: number;
  #usedMs: number;
  #usedStreamCount = 0;
  /** The time at which the connection is destroyed if it is still open. Undefined before GOAWAY. */
  #leavesUntilMs: number | undefined;

  /** `chance` is a number from 0 to 1 that spreads the ages at which connections are closed. */
  constructor(limits: LifetimeLimits, opened: { readonly nowMs: number; readonly chance: number }) {
    this.#limits = limits;
    this.#keepalive = new Keepalive(limits, opened.nowMs);
    this.#openedMs = opened.nowMs;
    this.#usedMs = opened.nowMs;
    this.#maxAgeMs = limits.maxConnectionAgeMs === 0 ? Number.POSITIVE_INFINITY : limits.maxConnectionAgeMs * (0.9 + 0.2 * opened.chance);
  }

  /** Closes the connection, with a grace period of `graceMs` for its open calls. Does nothing if the connection is already closing. */
  leave(nowMs: number, graceMs: number): LifetimeOrder | undefined {
    if (this.#leavesUntilMs !== undefined) return undefined;
    this.#leavesUntilMs = nowMs + graceMs;
    return "close";
  }

  /** Compares the clocks with the limits. Called a few times per second. */
  check(sample: LifetimeSample): LifetimeOrder | undefined {
    const { nowMs, dueMs, openStreams, streamCount } = sample;
    if (this.#leavesUntilMs !== undefined) return dueMs > this.#leavesUntilMs ? "cut" : undefined;
    if (dueMs - this.#openedMs > this.#maxAgeMs) return this.leave(nowMs, this.#limits.maxConnectionAgeGraceMs);
    if (openStreams > 0 || streamCount !== this.#usedStreamCount) {
      this.#usedStreamCount = streamCount;
      this.#usedMs = nowMs;
    } else if (dueMs - this.#usedMs > this.#limits.idleTimeoutMs) return this.leave(nowMs, this.#limits.maxConnectionAgeGraceMs);
    const order = this.#keepalive.check(sample);
    return order === "dead" ? "cut" : order;
  }
}
