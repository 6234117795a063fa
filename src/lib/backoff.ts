/** How long to wait before the next attempt: exponential, with full jitter. */

export interface BackoffOptions {
  /** Upper bound of the first wait. */
  readonly baseMs: number;
  /** Upper bound of every wait. */
  readonly maxMs: number;
}

/** Wait before attempt number `attempt` (0 = the first retry). `chance` is uniform in [0, 1). Never less than a tenth of its bound. */
export function backoffMs(attempt: number, chance: number, { baseMs, maxMs }: BackoffOptions): number {
  const boundMs = Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30));
  return Math.round(boundMs * (0.1 + 0.9 * chance));
}

/** Part of the longest wait that a client waits at least. */
const LATE_SHARE = 0.6;
/** Waits of clients that lost a server: with the longest one, all are back within 15 s of its return. */
const RETURN = { baseMs: 250, maxMs: 12_000 } as const;

/**
 * Wait of a client before it tries to come back to a lost server. While its waits grow they have full jitter, which spreads the clients that the server lost in one moment.
 * Clients that wait the longest time are spread already, and then longer waits between two tries mean fewer tries in each second: a tenth of the clients come in the first second after
 * the server is back, where full jitter would bring a fifth.
 */
export function returnMs(attempt: number, chance: number): number {
  const isLongest = RETURN.baseMs * 2 ** Math.min(attempt, 30) >= RETURN.maxMs;
  return isLongest ? Math.round(RETURN.maxMs * (LATE_SHARE + (1 - LATE_SHARE) * chance)) : backoffMs(attempt, chance, RETURN);
}
