/** Settings of leases and of what is remembered of removals: the group `catalog` of SETTINGS in settings.ts, which is where to look first. */
import { durationText } from "../lib/duration.ts";
import { int, ms } from "./field.ts";

const HOUR_MS = 3_600_000;

export const CATALOG_SETTINGS = {
  defaultLeaseTtlMs: ms({ default: 30_000, min: 1000, max: 24 * HOUR_MS, doc: "Ttl of a lease that asks for none." }),
  minLeaseTtlMs: ms({ default: 1000, min: 100, max: HOUR_MS, doc: "Shortest ttl a lease may have." }),
  maxLeaseTtlMs: ms({ default: 24 * HOUR_MS, min: 1000, max: 24 * HOUR_MS, doc: "Longest ttl a lease may have." }),
  loadIntervalMs: ms({ default: 30_000, min: 0, max: HOUR_MS, doc: "Least time between two replicated load changes of one entry." }),
  maxIdempotencyKeys: int({ default: 100_000, min: 100, max: 10_000_000, doc: "Retried registrations remembered." }),
  tombstoneTtlMs: ms({
    default: HOUR_MS,
    min: 1000,
    max: 24 * HOUR_MS,
    doc: "How long removals are remembered for readers that are behind.",
  }),
  minTombstones: int({ default: 100_000, min: 100, max: 10_000_000, doc: "Removals remembered however few entries there are." }),
} as const;

interface LeaseTtls {
  readonly defaultLeaseTtlMs: number;
  readonly minLeaseTtlMs: number;
  readonly maxLeaseTtlMs: number;
}

/** What is wrong between the bounds, by setting: the shortest ttl is at most the default, and that at most the longest. */
export function leaseProblems({ defaultLeaseTtlMs, minLeaseTtlMs, maxLeaseTtlMs }: LeaseTtls): readonly (readonly [string, string])[] {
  const rows = [
    ["catalog.min_lease_ttl", minLeaseTtlMs, "catalog.default_lease_ttl", defaultLeaseTtlMs],
    ["catalog.default_lease_ttl", defaultLeaseTtlMs, "catalog.max_lease_ttl", maxLeaseTtlMs],
  ] as const;
  return rows.flatMap(([low, lowMs, high, highMs]) =>
    lowMs > highMs ? [[low, `${durationText(lowMs)} is more than ${high}, which is ${durationText(highMs)}`] as const] : [],
  );
}
