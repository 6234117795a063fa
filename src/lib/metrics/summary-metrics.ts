/** Metrics of summaries: rows of METRICS in `metrics.ts`. */
import { counter, gauge, OTHER } from "./row.ts";

export const SUMMARY_METRICS = {
  discovery_summary_exports_total: counter(
    "summaries",
    { outcome: ["exported", "withdrawn", "failed"] },
    "Summaries that this node made for its cluster: exported, withdrawn, or not made because the key is missing, there is no room, or no other cluster would take them.",
  ),
  discovery_summary_hold_downs_total: counter(
    "changes",
    {},
    "Changes of a service that waited, so that its summary is sent at most once in summary.hold_down.",
  ),
  discovery_summary_refusals_total: counter(
    "summaries",
    {
      reason: ["unsigned", "unknown_key", "bad_signature", "stale", "future", "older", "not_owner", "echo", "conflict", "limit", OTHER],
    },
    "Summaries and beacons from borders that were not taken, or taken and not shown, by reason.",
  ),
  discovery_summaries: gauge(
    "summaries",
    { state: ["fresh", "stale", "dropped"] },
    "Summaries held, by the state of their source: stale means that no beacon of it came for its ttl.",
  ),
  discovery_summary_clusters: gauge(
    "clusters",
    { state: ["fresh", "stale", "gone"] },
    "Clusters of other regions of which the settings of this node name a key, or a border where summary.require_signatures is off, by what it heard last: stale means that no beacon came for a ttl, gone that nothing of the cluster is shown any more, or never was.",
  ),
  discovery_summary_exporters: gauge(
    "nodes",
    {},
    "Live nodes of the cluster that export its summaries, as this node knows. 0: the cluster exports nothing. Absent where the cluster is not meant to export (summary.export_enabled).",
    "largest",
  ),
  summary_export_lag_seconds: gauge(
    "seconds",
    {},
    "Age of the oldest summary that is due on some border and not taken there, because a link is slow or there is none. 0 when nothing is due.",
    "largest",
  ),
} as const;
