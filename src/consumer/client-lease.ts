/** When a program renews a lease that it keeps, and when that lease counts as lost (docs/guides/clients.md, Keeping alive). */

/** A renewal is due after a third of the ttl, or up to a quarter of that earlier, so that leases which began together are not renewed together. */
const RENEWAL_SHARE = 1 / 3;
const RENEWAL_SPREAD = 0.25;
/** When no renewal has succeeded for this part of the ttl, the entries are registered again while the lease still holds. */
const LOST_SHARE = 0.5;
/** A lease that never ends is renewed for its reports, and to learn whether its server still has it. */
const ENDLESS_TTL_MS = 90_000;

export interface ClientLease {
  readonly leaseId: string;
  readonly server: string;
  /** Undefined for a lease that never ends. */
  readonly ttlMs: number | undefined;
  /** Since then the ttl runs, for sure: a server counts from when it receives the request. */
  readonly sinceMonoMs: number;
}

/** When the next renewal is due. `random` is uniform in [0, 1). */
export function renewalMonoMs({ sinceMonoMs, ttlMs = ENDLESS_TTL_MS }: ClientLease, random: number): number {
  return sinceMonoMs + ttlMs * RENEWAL_SHARE * (1 - RENEWAL_SPREAD * random);
}

/** When the lease counts as lost unless a renewal succeeds before. */
export function leaseLostMonoMs({ sinceMonoMs, ttlMs = ENDLESS_TTL_MS }: ClientLease): number {
  return sinceMonoMs + ttlMs * LOST_SHARE;
}
