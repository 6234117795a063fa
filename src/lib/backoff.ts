/** Computes the wait before the next attempt: exponential backoff with full jitter. */

export interface BackoffOptions {
  /** Upper bound of the first wait. */
  readonly baseMs: number;
  /** Upper bound of every wait. */
  readonly maxMs: number;
}

/** Wait before attempt number `attempt` (0 = the first retry). `chance` is uniform in [0, 1). The wait is at least a tenth of its bound. */
export function backoffMs(attempt: number, chance: number, { baseMs, maxMs }: BackoffOptions): number {
  const boundMs = Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30));
  return Math.round(boundMs * (0.1 + 0.9 * chance));
}

/** The longest wait of a client is at least this part of its bound. */
const LATE_SHARE = 0.6;
/** Waits of clients that lost a server. With the longest wait, all clients are connected again within 15 s of the server's return. */
const RETURN = { baseMs: 250, maxMs: 12_000 } as const;

/**
 * Wait of a client before it tries to reconnect to a lost server. While the waits grow, they have full jitter, which spreads the clients that
 * lost the server at the same time. Clients that have reached the longest wait are already spread, so their waits have less jitter: longer waits
 * mean fewer attempts per second. A tenth of the clients connect in the first second after the server's return; with full jitter, it would be a
 * fifth.
 */
export function returnMs(attempt: number, chance: number): number {
  const isLongest = RETURN.baseMs * 2 ** Math.min(attempt, 30) >= RETURN.maxMs;
  return isLongest ? Math.round(RETURN.maxMs * (LATE_SHARE + (1 - LATE_SHARE) * chance)) : backoffMs(attempt, chance, RETURN);
}
