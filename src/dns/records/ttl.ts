/** How long clients may keep records. */
import type { EntryView } from "../../catalog/entry/view.ts";
import { HEALTH } from "../../catalog/record/record.ts";
import type { DnsSettings } from "./record.ts";

/** TTL in seconds for the ttl of an entry, within the configured bounds as far as whole seconds are. */
export function ttlSeconds(ttlMs: number | undefined, settings: DnsSettings): number {
  const least = Math.ceil(settings.minTtlMs / 1000);
  return Math.min(Math.max(seconds(ttlMs ?? settings.defaultTtlMs), least), seconds(settings.maxTtlMs));
}

/**
 * One TTL for the whole set (RFC 2181, 5.2): the least of its entries. What remains of a lease does not count, because only one node knows it. Of an ORPHANED entry nobody
 * knows whether it is still there.
 */
export function setTtlSeconds(entries: readonly Pick<EntryView, "health" | "ttlMs">[], settings: DnsSettings): number {
  const stale = seconds(settings.staleTtlMs);
  return Math.min(
    ...entries.map(({ ttlMs, health }) => {
      const own = ttlSeconds(ttlMs, settings);
      return health === HEALTH.ORPHANED ? Math.min(own, stale) : own;
    }),
  );
}

/** Whole seconds, rounded down, so that no answer is kept longer than its entry allows. */
export function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}
