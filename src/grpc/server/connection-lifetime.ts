/** How long a connection lives: kept alive by pings, told to go away when it is idle or old, and cut when it does not (gRPC's keepalive.md). */
import { Keepalive, type KeepaliveLimits } from "../wire/keepalive.ts";

export interface LifetimeLimits extends KeepaliveLimits {
  /** A connection without an open call for so many ms is told to go away; gRPC clients connect again at their next call. */
  readonly idleTimeoutMs: number;
  /** A connection is told to go away at this age ± 10 %, so that clients spread again over the servers; 0: never. */
  readonly maxConnectionAgeMs: number;
  /** After that its open calls have this long. */
  readonly maxConnectionAgeGraceMs: number;
}

/** A connection lives as long as its client wants. */
export const ENDLESS: LifetimeLimits = {
  keepaliveTimeMs: Number.POSITIVE_INFINITY,
  keepaliveTimeoutMs: Number.POSITIVE_INFINITY,
  idleTimeoutMs: Number.POSITIVE_INFINITY,
  maxConnectionAgeMs: 0,
  maxConnectionAgeGraceMs: 0,
};

/**
 * What the shell must do. `close`: send the GOAWAY that says which streams were taken, and close when they are over. `cut`: destroy the
 * connection.
 *
 * A call that crosses the GOAWAY is not looked at, and clients make it again elsewhere (RFC 9113, section 6.8). A first GOAWAY that refuses no
 * stream would not change this: nghttp2 takes no new streams after any GOAWAY, and where no stream is open Node reads nothing more, not even the
 * answer to a PING or the client's end.
 */
export type LifetimeOrder = "ping" | "close" | "cut";

/** What the shell reads of a connection. Times are stall-aware ms (lib/stall-aware-clock.ts). */
export interface LifetimeSample {
  readonly nowMs: number;
  readonly dueMs: number;
  readonly bytesRead: number;
  readonly openStreams: number;
  /** Streams ever opened. */
  readonly streamCount: number;
}

export class ConnectionLifetime {
  readonly #limits: LifetimeLimits;
  readonly #keepalive: Keepalive;
  readonly #maxAgeMs: number;
  readonly #openedMs: number;
  #usedMs: number;
  #usedStreamCount = 0;
  /** When it is cut if it has not gone away by then; undefined while it may stay. */
  #leavesUntilMs: number | undefined;

  /** `chance` is a number from 0 to 1 that spreads the ages of connections. */
  constructor(limits: LifetimeLimits, opened: { readonly nowMs: number; readonly chance: number }) {
    this.#limits = limits;
    this.#keepalive = new Keepalive(limits, opened.nowMs);
    this.#openedMs = opened.nowMs;
    this.#usedMs = opened.nowMs;
    this.#maxAgeMs = limits.maxConnectionAgeMs === 0 ? Number.POSITIVE_INFINITY : limits.maxConnectionAgeMs * (0.9 + 0.2 * opened.chance);
  }

  /** The connection is to go away; its open calls have `graceMs`. Does nothing when it is going already. */
  leave(nowMs: number, graceMs: number): LifetimeOrder | undefined {
    if (this.#leavesUntilMs !== undefined) return undefined;
    this.#leavesUntilMs = nowMs + graceMs;
    return "close";
  }

  /** Looks at the clocks; called a few times a second. */
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
