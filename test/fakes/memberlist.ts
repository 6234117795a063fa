/** What HashiCorp memberlist would do, from its source: what ours is measured against. */

/** Its probe interval in its LAN defaults. */
const INTERVAL_MS = 1000;
/** Confirmations it wants with its suspicion multiplier of 4. */
export const MEMBERLIST_WANTED = 4 - 2;

/** `suspicionTimeout` and `remainingSuspicionTime` with its LAN defaults: from the first suspicion to death, in ms. */
export function memberlistMs(memberCount: number, confirmations: number): number {
  const minMs = 4 * Math.max(1, Math.log10(memberCount)) * INTERVAL_MS;
  const maxMs = 6 * minMs;
  return Math.max(minMs, maxMs - (Math.log(confirmations + 1) / Math.log(MEMBERLIST_WANTED + 1)) * (maxMs - minMs));
}
