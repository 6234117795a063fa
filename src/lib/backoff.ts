/** Computes the wait before the next attempt: exponential backoff with full jitter. */

export interface BackoffOptions {
  /** Upper bound of the initial wait. */
  readonly baseMs: number;
  /** Upper bound of every wait. */
  readonly maxMs: number;
}

/**
 * Wait before attempt number `attempt` (0 = the first retry). `chance` is uniformly distributed in [0, 1). The wait is at least a tenth of its bound.
 */
export function backoffMs(attempt: number, chance: number, { baseMs, maxMs }: BackoffOptions): number {
  const boundMs = Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30));
  return Math.round(boundMs * (0.1 + 0.9 * chance));
}

/** A client's longest wait is at least this fraction of its bound. */
const LATE_SHARE = 0.6;
/** Wait times of clients that lost their server. Even with the longest wait, all clients are connected again within 15 s of the server's return. */
const RETURN = { baseMs: 250, maxMs: 12_000 } as const;

/**
 * The wait before a client tries to reconnect to a lost server. While the waits grow, they have full jitter, which spreads clients that lost the
 * server at the same time. Clients that have reached the longest wait are already spread out, so their waits have less jitter: longer waits mean
 * fewer attempts per second. In the first second after the server's return, a tenth of the clients connect. With full jitter, it would be a fifth.
 */
export function returnMs(attempt: number, chance: number): number {
  const isLongest = RETURN.baseMs * 2 ** Math.min(attempt, 30) >= RETURN.maxMs;
  return isLongest ? Math.round(RETURN.maxMs * (LATE_SHARE + (1 - LATE_SHARE) * chance)) : backoffMs(attempt, chance, RETURN);
}
