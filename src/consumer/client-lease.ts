/** Computes when a client must renew its lease, and when the lease is considered lost (docs/guides/clients.md, Keeping alive). */

/**
 * A renewal is due after a third of the TTL, minus up to a quarter of that time, so that leases that started at the same time are not renewed at the
 * same time.
 */
const RENEWAL_SHARE = 1 / 3;
const RENEWAL_SPREAD = 0.25;
/** If no renewal succeeds for this fraction of the TTL, the entries are registered again while the lease is still valid. */
const LOST_SHARE = 0.5;
/** A lease that never expires is renewed at this interval to send reports, and to check that its server still has it. */
const ENDLESS_TTL_MS = 90_000;

export interface ClientLease {
  readonly leaseId: string;
  readonly server: string;
  /** Undefined for a lease that never expires. */
  readonly ttlMs: number | undefined;
  /**
   * Time at which the last successful request was sent. The server measures the TTL from the receipt of the request, so never from an earlier time.
   */
  readonly sinceMonoMs: number;
}

/** Time at which the next renewal is due. `random` is uniform in [0, 1). */
export function renewalMonoMs({ sinceMonoMs, ttlMs = ENDLESS_TTL_MS }: ClientLease, random: number): number {
  return sinceMonoMs + ttlMs * RENEWAL_SHARE * (1 - RENEWAL_SPREAD * random);
}

/** Time at which the client considers the lease lost unless a renewal succeeds before then. */
export function leaseLostMonoMs({ sinceMonoMs, ttlMs = ENDLESS_TTL_MS }: ClientLease): number {
  return sinceMonoMs + ttlMs * LOST_SHARE;
}
