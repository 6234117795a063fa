/** A resolver's reports about itself: `/readyz`, its metrics, and the audit events for its automatic operations. */

import type { Time } from "../../lib/machine.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import { type AuditEvent, NODE_ACT } from "../../policy/audit/record.ts";
import type { ResolverMachine } from "../../resolver/machine.ts";
import { RESYNC_REASONS, type ResyncOrder } from "../../resolver/maintenance/resync-notes.ts";
import { hitRatio } from "../../resolver/maintenance/statistics.ts";
import { UPSTREAM_FAULTS } from "../../resolver/upstreams.ts";
import type { ReadyCheck } from "../../server/http-routes.ts";
import type { ResolverRooms } from "./resolver-rooms.ts";

/**
 * Returns the checks in `/readyz`: whether the resolver is serving, which upstream it reads from, and which policy it applies. `fault` lists the
 * failures of the upstream servers since a message was last received. `fault` is empty if there were none.
 */
export function resolverChecks(
  { machine, policies, replica, summaries }: Pick<ResolverRooms, "machine" | "policies" | "replica" | "summaries">,
  { isServing, fault }: { readonly isServing: boolean; readonly fault: string },
): readonly ReadyCheck[] {
  const { current, refused } = machine.upstreams;
  const held = isServing || replica.lookup.size > 0 ? "cached data is served" : "no data is cached yet";
  const read = current === undefined ? `cannot read from any upstream; ${held}` : `reads ${current}`;
  const isWell = fault === "" || (isServing && current !== undefined);
  const refusals = current === undefined ? refused.map(({ upstream, fault: why }) => `${upstream} is refused: ${why}`) : [];
  return [
    // A resolver that was once ready stays ready: later problems show in its answers, and would affect other resolvers too.
    { name: "catalog", ok: isServing, detail: machine.fault ?? (isServing ? "loaded" : "loading") },
    { name: "upstream", ok: true, detail: [read, ...refusals, ...(isWell ? [] : [`last fault: ${fault}`])].join("; ") },
    { name: "policy", ok: machine.policy.isReady, detail: policyDetail(machine, policies) },
    ...(summaries === undefined ? [] : [{ name: "summaries", ok: true, detail: summariesDetail(summaries) }]),
  ];
}

function summariesDetail({ followed }: NonNullable<ResolverRooms["summaries"]>): string {
  if (followed.fault !== undefined) return followed.fault;
  return followed.isComplete ? "followed" : "not received yet; a server without summary.keys sends none";
}

function policyDetail({ policy }: ResolverRooms["machine"], { status, isAwaiting }: ResolverRooms["policies"]): string {
  const { lacking } = policy.kept.state;
  if (lacking !== undefined) return `waiting for policy version ${lacking} from an upstream`;
  if (isAwaiting) return "waiting for the current policy from an upstream";
  return status.isEnabled ? `version ${status.inForce?.number} in force` : "none configured";
}

/** Sets the metrics at each scrape. */
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

/** Returns the audit event for serving from an on-disk copy (semantics.md, Resolver 18 and 21). `ageMs` is infinite while the age is unknown. */
export function replayEvent(
  { entryCount, ageMs }: { readonly entryCount: number; readonly ageMs: number },
  { wallMs }: Pick<Time, "wallMs">,
): AuditEvent {
  const age = Number.isFinite(ageMs) ? `${Math.round(ageMs)} ms old` : "of unknown age";
  return { ...NODE_ACT, atWallMs: wallMs, action: "resolver.replay", detail: `${entryCount} entries, ${age}` };
}

/** Returns the audit event for a resync. */
export function resyncEvent({ reason, upstream, prefixes, times }: ResyncOrder, { wallMs }: Pick<Time, "wallMs">): AuditEvent {
  const namespace = prefixes.length === 1 ? (prefixes[0] ?? "") : "";
  const whole = prefixes.map((prefix) => (prefix === "" ? "all" : prefix)).join(", ");
  const often = times === 1 ? "" : `, the last of ${times} resyncs since the previous record`;
  return { ...NODE_ACT, atWallMs: wallMs, action: "cache.resync", namespace, reason, detail: `from ${upstream}${often}: ${whole}` };
}
