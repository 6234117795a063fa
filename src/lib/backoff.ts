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
