/** The numbers a node shows of its inside: gauges filled when somebody asks. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { KIND, type Kind } from "./catalog/record.ts";
import { SCOPE, SCOPE_NAMES } from "./catalog/scope.ts";
import type { NodeCore } from "./node-core.ts";
import type { Doors } from "./node-doors.ts";

const KIND_LABELS = { 1: "service", 2: "function", 3: "topic", 4: "queue", 5: "cache", 6: "node" } as const satisfies Record<Kind, string>;

/** Fills the gauges at each scrape. */
export function observeNode(core: NodeCore, doors: Pick<Doors, "grpc" | "edge">): void {
  const { metrics, replica, leases, fanout, journal, state } = core;
  const loop = monitorEventLoopDelay({ resolution: 10 });
  loop.enable();
  metrics.onCollect(() => {
    for (const kind of Object.values(KIND)) {
      for (const scope of [SCOPE.LOCAL, SCOPE.ZONE, SCOPE.REGION, SCOPE.GLOBAL]) {
        metrics.set("waymark_catalog_entries", { kind: KIND_LABELS[kind], scope: SCOPE_NAMES[scope] }, replica.lookup.count(kind, scope));
      }
    }
    metrics.set("waymark_catalog_revision", {}, replica.revision);
    metrics.set("waymark_catalog_tombstones", {}, replica.tombstoneCount);
    metrics.set("waymark_leases", {}, leases.size);
    metrics.set("waymark_watch_streams", {}, fanout.size);
    let lag = 0;
    for (const watcher of fanout.watchers()) lag = Math.max(lag, watcher.lagRevisions);
    metrics.set("waymark_watch_lag_revisions", {}, lag);
    metrics.set("waymark_ready", {}, state.isReady && !state.isDraining ? 1 : 0);
    metrics.set("waymark_connections", { listener: "grpc" }, doors.grpc.connectionCount());
    metrics.set("waymark_connections", { listener: "http" }, doors.edge.connectionCount());
    const stats = journal.stats();
    metrics.set("waymark_journal_bytes", {}, stats.walBytes);
  });
}
