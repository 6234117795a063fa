/** The numbers of the mesh, filled when somebody asks. */
import type { FabricDriver } from "./fabric/driver.io.ts";
import type { Fabric } from "./fabric/fabric.ts";
import { MEMBER_STATUSES } from "./fabric/messages.ts";
import type { TrafficKind } from "./fabric/wire-traffic.ts";
import type { Time } from "./lib/machine.ts";
import type { Metrics } from "./lib/metrics.ts";

const STATES = ["opening", "greeting", "up", "ending"] as const;

/** Label of what was sent or received. */
const KINDS = {
  hello: "hello",
  goodbye: "goodbye",
  vector: "vector",
  records: "records",
  linked: "linked",
  digests: "digests",
  policyHead: "policy",
  policyWanted: "policy",
  policyPart: "policy",
  unknown: "other",
  probe: "probe",
  probeIndirect: "probe_indirect",
  pushPull: "push_pull",
} as const satisfies Record<TrafficKind, string>;

export interface MeshObserved {
  readonly metrics: Metrics;
  readonly fabric: Fabric;
  readonly driver: FabricDriver;
  readonly now: () => Time;
}

/** Fills the gauges at each scrape. */
export function observeMesh(observed: MeshObserved): void {
  observed.metrics.onCollect(() => {
    observeMembers(observed);
    observeLinks(observed);
    observeReplication(observed);
  });
}

function observeMembers({ metrics, fabric }: MeshObserved): void {
  const { alive, suspect, left, dead } = fabric.membership.counts();
  // This node is one of them.
  const counts = { alive: alive + 1, suspect, left, dead } as const;
  for (const status of MEMBER_STATUSES) metrics.set("mesh_gossip_members", { status }, counts[status]);
  metrics.set("mesh_health_score", {}, fabric.membership.healthScore);
  const { answered, failed, taken, refused } = fabric.membership.traffic;
  metrics.counter("mesh_gossip_messages_total", { direction: "sent", outcome: "ok" }).set(answered);
  metrics.counter("mesh_gossip_messages_total", { direction: "sent", outcome: "failed" }).set(failed);
  metrics.counter("mesh_gossip_messages_total", { direction: "received", outcome: "ok" }).set(taken);
  // Strangers are refused before membership hears of them.
  const refusedCount = refused + fabric.calls.refusedCount;
  metrics.counter("mesh_gossip_messages_total", { direction: "received", outcome: "refused" }).set(refusedCount);
}

function observeLinks({ metrics, fabric, driver }: MeshObserved): void {
  const counts = { opening: 0, greeting: 0, up: 0, ending: 0 };
  for (const { state } of fabric.links()) counts[state] += 1;
  for (const state of STATES) metrics.set("mesh_links", { state }, counts[state]);
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

function observeReplication({ metrics, fabric, now }: MeshObserved): void {
  const { stats } = fabric.replication;
  const { orphaned, hidden } = fabric.lives.counts();
  metrics.set("mesh_replication_lag_seconds", {}, fabric.readiness(now()).ageMs / 1000);
  metrics.set("mesh_orphans", { state: "orphaned" }, orphaned);
  metrics.set("mesh_orphans", { state: "hidden" }, hidden);
  metrics.set("mesh_orphan_protected", {}, fabric.lives.protectedClusters().length);
  metrics.counter("mesh_vector_exchanges_total", { outcome: "equal" }).set(stats.vectorsEqual);
  metrics.counter("mesh_vector_exchanges_total", { outcome: "differed" }).set(stats.vectorsDifferent);
  metrics.counter("mesh_refused_records_total", {}).set(stats.refusedRecords);
  metrics.counter("mesh_clock_skew_total", {}).set(stats.beyondSkew);
}
