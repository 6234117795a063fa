/** How long clients may keep records. */
import type { SubjectTarget } from "../plan/subject.ts";
import type { DnsSettings } from "./record.ts";

/** TTL in seconds for the ttl of an entry, within the configured bounds. */
export function ttlSeconds(ttlMs: number | undefined, settings: DnsSettings): number {
  return seconds(Math.min(Math.max(ttlMs ?? settings.defaultTtlMs, settings.minTtlMs), settings.maxTtlMs));
}

/** One TTL for the whole set (RFC 2181, 5.2): the shortest of its records. */
export function setTtlSeconds(targets: readonly SubjectTarget[], settings: DnsSettings): number {
  return Math.min(...targets.map(({ entry }) => ttlSeconds(entry.ttlMs, settings)));
}

/** Whole seconds, rounded down, so that no answer is kept longer than its entry allows. */
export function seconds(ms: number): number {
  return Math.floor(ms / 1000);
}
