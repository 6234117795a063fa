/** Fills the metrics of a resolver at each scrape. */
import type { Time } from "../../lib/machine.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import type { ResolverMachine } from "../../resolver/machine.ts";
import { RESYNC_REASONS } from "../../resolver/upkeep/resync-notes.ts";
import { hitRatio } from "../../resolver/upkeep/statistics.ts";
import { UPSTREAM_FAULTS } from "../../resolver/upstreams.ts";

export function observeResolver(metrics: Metrics, machine: Pick<ResolverMachine, "followedAnswer" | "statistics">, time: Time): void {
  const statistics = machine.statistics(time);
  const { ageMs } = machine.followedAnswer(time);
  metrics.set("discovery_cache_hit_rate", {}, hitRatio(statistics));
  metrics.set("discovery_cache_entries", {}, statistics.entryCount);
  metrics.set("discovery_cache_held", {}, statistics.heldCount);
  metrics.counter("discovery_cache_unheld_total", {}).set(statistics.unheldCount);
  metrics.set("discovery_cache_bytes", {}, statistics.sizeBytes);
  metrics.set("discovery_cache_age_ms", {}, Number.isFinite(ageMs) ? Math.round(ageMs) : -1);
  metrics.counter("discovery_cache_stale_serves_total", {}).set(statistics.staleCount);
  metrics.counter("discovery_cache_negative_total", {}).set(statistics.negativeCount);
  metrics.counter("discovery_cache_evictions_total", {}).set(statistics.evictedCount);
  metrics.counter("discovery_cache_upstream_changes_total", {}).set(statistics.upstreamChangeCount);
  for (const reason of UPSTREAM_FAULTS)
    metrics.counter("discovery_cache_upstream_faults_total", { reason }).set(statistics.upstreamFaults[reason]);
  for (const reason of RESYNC_REASONS) metrics.counter("discovery_cache_resyncs_total", { reason }).set(statistics.resyncs[reason]);
}
