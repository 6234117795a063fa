/** Counts exported and received summaries, and records exports, withdrawals and rejections in the audit log. */
import type { Log } from "../../lib/log.io.ts";
import { now } from "../../lib/stall-aware-time.io.ts";
import { NODE_ACT } from "../../policy/audit/record.ts";
import type { Draft } from "../../summary/building/drafts.ts";
import type { RefusalEvent } from "../../summary/held/refusals.ts";
import { SUMMARY_REFUSALS } from "../../summary/summary.ts";
import type { NodeComponent } from "../components.io.ts";
import type { NodeSummaries } from "../core/regions/summaries.ts";
import type { NodeNotice } from "../core-io.ts";
import { observeClusters, observeSummaries } from "../metrics.ts";
import type { NodeCore } from "../rooms.io.ts";

/** Reports the metrics and the `/readyz` line for summaries. `clusters`: the source clusters that this node should receive. */
export function openSummaryEvents(core: NodeCore, regions: NodeSummaries, clusters: readonly string[], log: Log): NodeComponent {
  const { metrics, driver } = core;
  driver.follow((notice) => follow(notice, core, log));
  const observe = () => {
    const time = now();
    const { exporterCount } = regions;
    if (exporterCount !== undefined) metrics.set("discovery_summary_exporters", {}, exporterCount);
    for (const reason of SUMMARY_REFUSALS)
      metrics.counter("discovery_summary_refusals_total", { reason }).set(regions.held.refusals[reason]);
    metrics.counter("discovery_summary_hold_downs_total", {}).set(regions.builder.heldDownCount);
    metrics.counter("discovery_summary_exports_total", { outcome: "failed" }).set(regions.failedCount);
    metrics.set("summary_export_lag_seconds", {}, regions.exportLagMs(time) / 1000);
    metrics.set("mesh_border_neighbours_unlinked", {}, regions.unlinkedNeighbours().length);
    observeSummaries(metrics, regions.held, time);
    observeClusters(metrics, regions.held, clusters, time);
  };
  return { observe, readiness: () => [{ name: "summaries", ok: true, detail: regions.standingText }] };
}

function follow(notice: NodeNotice, core: NodeCore, log: Log): void {
  if (notice.kind === "summaryExported") exported(core, notice.draft);
  if (notice.kind === "summaryRefused") refused(core, log, notice.event);
  if (notice.kind === "summaryUnsaid") log.error({ ...notice.event }, "summary not exported: other clusters would reject it");
  if (notice.kind !== "exporters") return;
  const { exporterCount, standing } = notice;
  if (exporterCount === 0) log.warn({ standing }, "no live node of the cluster exports summaries");
  else log.info({ exporters: exporterCount }, "the cluster exports summaries again");
}

function exported({ metrics, audit }: NodeCore, { facts, cause }: Draft): void {
  const { namespace, serviceId, withdrawn, policyNumber, policyRule, endpointCount } = facts;
  metrics.inc("discovery_summary_exports_total", { outcome: withdrawn ? "withdrawn" : "exported" });
  audit?.record({
    ...NODE_ACT,
    atWallMs: now().wallMs,
    action: withdrawn ? "summary.withdraw" : "summary.export",
    namespace,
    reason: cause,
    rule: policyRule,
    subjects: `${namespace}/${serviceId}`,
    detail: `service=${serviceId} endpoints=${endpointCount} policy=${policyNumber}`,
  });
}

function refused({ audit }: NodeCore, log: Log, { why, atWallMs, source, via, namespace, name }: RefusalEvent): void {
  log.warn({ reason: why, source, via, namespace, name }, "summary rejected");
  const detail = `source=${source} service=${name}`;
  audit?.record({
    ...NODE_ACT,
    atWallMs,
    action: "summary.take",
    source: via,
    namespace,
    outcome: "denied",
    reason: why,
    subjects: `${namespace}/${name}`,
    detail,
  });
}
