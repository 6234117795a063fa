/** Sets the metrics of the mesh at each scrape. */
import type { Fabric } from "../../fabric/fabric.ts";
import type { TrafficKind, TrafficRow } from "../../fabric/transport/link-stream.ts";
import { MEMBER_STATUSES } from "../../fabric/wire/messages.ts";
import type { Time } from "../../lib/machine.ts";
import { MESH_METRICS } from "../../lib/metrics/mesh-metrics.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import type { NodeMachine } from "../core.ts";

const STATES = ["opening", "greeting", "up", "ending"] as const;

/** The label of each kind of frame and call. */
const KINDS = {
  hello: "hello",
  goodbye: "goodbye",
  vector: "vector",
  records: "records",
  linked: "linked",
  digests: "digests",
  handOver: "hand_over",
  policyHead: "policy",
  policyWanted: "policy",
  policySettled: "policy",
  policyPart: "policy",
  summaries: "summaries",
  sourceAges: "source_ages",
  borderRules: "border",
  borderBatch: "border",
  borderDigest: "border",
  borderHave: "border",
  unknown: "other",
  probe: "probe",
  probeIndirect: "probe_indirect",
  pushPull: "push_pull",
  maintain: "maintain",
} as const satisfies Record<TrafficKind, string>;

export interface ObservedFabric {
  readonly metrics: Metrics;
  readonly fabric: Fabric;
  readonly driver: {
    /** Counts the open connections and refused calls of the transport. Undefined until the transport is open. */
    counts(): { readonly connections: number; readonly refusedCalls: number } | undefined;
    /** Numbers of frames and calls with their bytes, by direction and kind. */
    stats(): readonly TrafficRow[];
  };
  readonly machine: Pick<NodeMachine, "ageMs" | "refusedCount">;
  readonly now: () => Time;
}

/** Sets gauges and counters from the counts of the parts of the fabric. */
export function observeFabric(observed: ObservedFabric): void {
  observeMembers(observed);
  observeCalls(observed);
  observeRefused(observed);
  observeLinks(observed);
  observeReplication(observed);
}

function observeMembers({ metrics, fabric }: ObservedFabric): void {
  const { membership } = fabric;
  const { alive, suspect, left, dead, conflicts } = membership.counts();
  // This node is included in the live members.
  const counts = { alive: alive + 1, suspect, left, dead } as const;
  for (const status of MEMBER_STATUSES) metrics.set("mesh_gossip_members", { status }, counts[status]);
  metrics.set("mesh_gossip_queue_updates", {}, membership.gossip.queueLength);
  metrics.set("mesh_gossip_fanout", {}, membership.gossip.fanout);
  metrics.set("mesh_member_conflicts", {}, conflicts);
  const { healthScore, refutationCount, joinAttempts } = membership.stats();
  metrics.set("mesh_health_score", {}, healthScore);
  metrics.counter("mesh_refutations_total", {}).set(refutationCount);
  metrics.counter("mesh_join_attempts_total", {}).set(joinAttempts);
}

function observeCalls({ metrics, fabric }: ObservedFabric): void {
  const { answered, failed, taken, refused } = fabric.membership.stats().traffic;
  metrics.counter("mesh_gossip_messages_total", { direction: "sent", outcome: "ok" }).set(answered);
  metrics.counter("mesh_gossip_messages_total", { direction: "sent", outcome: "failed" }).set(failed);
  metrics.counter("mesh_gossip_messages_total", { direction: "received", outcome: "ok" }).set(taken);
  // Unknown peers are refused before their calls reach membership.
  const refusedCount = refused + fabric.calls.refusedCount;
  metrics.counter("mesh_gossip_messages_total", { direction: "received", outcome: "refused" }).set(refusedCount);
}

function observeRefused({ metrics, fabric, driver, machine }: ObservedFabric): void {
  const { peer, link, border, call, origin, policy, unknownFrame } = fabric.refused();
  const ownCall = driver.counts()?.refusedCalls ?? 0;
  const counts = {
    peer,
    link,
    border,
    own_call: ownCall,
    call,
    stranger: machine.refusedCount,
    origin,
    policy,
    unknown_frame: unknownFrame,
  };
  for (const what of MESH_METRICS.mesh_refused_total.labels.what) metrics.counter("mesh_refused_total", { what }).set(counts[what]);
  metrics.counter("mesh_foreign_links_total", {}).set(fabric.foreignPeers.admittedCount);
  metrics.set("mesh_policy_not_taken", {}, fabric.policy.notTaken?.head.number ?? 0);
  const { conflictsFull, tooMany, ownAddress, ...faults } = fabric.membership.stats().refused;
  const updates = { ...faults, conflicts_full: conflictsFull, too_many: tooMany, own_address: ownAddress };
  for (const reason of MESH_METRICS.mesh_refused_updates_total.labels.reason)
    metrics.counter("mesh_refused_updates_total", { reason }).set(updates[reason]);
}

function observeLinks({ metrics, fabric, driver }: ObservedFabric): void {
  const counts = { opening: 0, greeting: 0, up: 0, ending: 0 };
  for (const { state } of fabric.links()) counts[state] += 1;
  const borderCounts = { opening: 0, greeting: 0, up: 0, ending: 0 };
  for (const { state } of fabric.borders.rows) borderCounts[state] += 1;
  for (const state of STATES) {
    metrics.set("mesh_links", { state }, counts[state]);
    metrics.set("mesh_border_links", { state }, borderCounts[state]);
  }
  metrics.set("waymark_connections", { listener: "fabric" }, driver.counts()?.connections ?? 0);
  const sums = new Map<string, { frames: number; bytes: number }>();
  for (const { direction, kind, frameCount, sizeBytes } of driver.stats()) {
    const labels = { direction, kind: KINDS[kind] };
    const sum = sums.get(`${direction} ${labels.kind}`) ?? { frames: 0, bytes: 0 };
    sum.frames += frameCount;
    sum.bytes += sizeBytes;
    sums.set(`${direction} ${labels.kind}`, sum);
    metrics.counter("mesh_link_frames_total", labels).set(sum.frames);
    metrics.counter("mesh_link_bytes_total", labels).set(sum.bytes);
  }
}

function observeReplication({ metrics, fabric, machine, now }: ObservedFabric): void {
  const { stats } = fabric.replication;
  const { orphaned, hidden, kept } = fabric.lifecycle.counts();
  metrics.set("mesh_replication_lag_seconds", {}, machine.ageMs(now()) / 1000);
  metrics.set("mesh_orphans", { state: "orphaned" }, orphaned);
  metrics.set("mesh_orphans", { state: "hidden" }, hidden);
  metrics.set("mesh_kept_origins", {}, kept);
  metrics.set("mesh_partial_origins", {}, fabric.replication.notWhole().length);
  metrics.set("mesh_orphan_protected", {}, fabric.lifecycle.protectedClusters().length);
  metrics.counter("mesh_vector_exchanges_total", { outcome: "equal" }).set(stats.vectorsEqual);
  metrics.counter("mesh_vector_exchanges_total", { outcome: "differed" }).set(stats.vectorsDifferent);
  metrics.counter("mesh_digest_exchanges_total", { outcome: "equal" }).set(stats.digestsEqual);
  metrics.counter("mesh_digest_exchanges_total", { outcome: "differed" }).set(stats.digestsDifferent);
  metrics.counter("mesh_origin_repairs_total", {}).set(stats.repairs);
  metrics.counter("mesh_origin_fetches_total", { outcome: "asked" }).set(stats.originsAsked);
  metrics.counter("mesh_origin_fetches_total", { outcome: "given" }).set(stats.originsGiven);
  metrics.counter("mesh_origin_fetches_total", { outcome: "held_back" }).set(stats.originsHeldBack);
  metrics.counter("mesh_whole_transfers_total", {}).set(stats.wholeTransfers);
  metrics.counter("mesh_records_total", { direction: "sent" }).set(stats.sentRecords);
  metrics.counter("mesh_records_total", { direction: "received" }).set(stats.receivedRecords);
  metrics.counter("mesh_applied_records_total", {}).set(stats.appliedRecords);
  metrics.counter("mesh_refused_records_total", {}).set(stats.refusedRecords);
  metrics.counter("mesh_clock_skew_total", {}).set(stats.beyondSkew);
}
