/** How long clients may keep records. */
import type { EntryView } from "../../catalog/entry/view.ts";
import type { DnsSettings } from "./record.ts";

/** TTL in seconds for the ttl of an entry, within the configured bounds. */
export function ttlSeconds(ttlMs: number | undefined, settings: DnsSettings): number {
  return seconds(Math.min(Math.max(ttlMs ?? settings.defaultTtlMs, settings.minTtlMs), settings.maxTtlMs));
}

/** One TTL for the whole set (RFC 2181, 5.2): the least of its entries. What remains of a lease does not count, because only one node knows it. */
export function setTtlSeconds(entries: readonly Pick<EntryView, "ttlMs">[], settings: DnsSettings): number {
  return Math.min(...entries.map(({ ttlMs }) => ttlSeconds(ttlMs, settings)));
}

/** Whole seconds, rounded down, so that no answer is kept longer than its entry allows. */
export function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}
