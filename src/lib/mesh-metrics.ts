/** Metrics of the mesh: rows of METRICS in metrics.ts, which is where to look first. */
import { type MetricRow, OTHER } from "./metric-row.ts";

const RTT_MS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000] as const;

const FRAME_KINDS = [
  "hello",
  "goodbye",
  "vector",
  "records",
  "linked",
  "digests",
  "hand_over",
  "policy",
  "probe",
  "probe_indirect",
  "push_pull",
  OTHER,
] as const;

export const MESH_METRICS = {
  mesh_gossip_members: {
    type: "gauge",
    unit: "nodes",
    help: "Members this node knows of, itself included, by status.",
    labels: { status: ["alive", "suspect", "left", "dead"] },
  },
  mesh_gossip_rtt_ms: {
    type: "histogram",
    unit: "ms",
    help: "From a probe being sent to its answer.",
    labels: {},
    buckets: RTT_MS,
  },
  mesh_gossip_messages_total: {
    type: "counter",
    unit: "messages",
    help: "Probes and exchanges of tables: ours by how they ended, those of others by whether we answered.",
    labels: { direction: ["sent", "received"], outcome: ["ok", "failed", "refused"] },
  },
  mesh_health_score: { type: "gauge", unit: "1", help: "How unwell this node thinks it is: 0 (well) to 8 (Lifeguard).", labels: {} },
  mesh_replication_lag_seconds: {
    type: "gauge",
    unit: "seconds",
    help: "How old what this node holds of others may be: time since the slowest peer said that nothing is missing. 1 to 2 when all is well; 5 to 10 where not all are linked with all.",
    labels: {},
  },
  mesh_links: {
    type: "gauge",
    unit: "links",
    help: "Replication links by state.",
    labels: { state: ["opening", "greeting", "up", "ending"] },
  },
  mesh_link_frames_total: {
    type: "counter",
    unit: "frames",
    help: "Frames on links and calls between nodes, by kind.",
    labels: { direction: ["sent", "received"], kind: FRAME_KINDS },
  },
  mesh_link_bytes_total: {
    type: "counter",
    unit: "bytes",
    help: "Bytes of frames on links and of calls between nodes, by kind, without HTTP/2's own.",
    labels: { direction: ["sent", "received"], kind: FRAME_KINDS },
  },
  mesh_vector_exchanges_total: {
    type: "counter",
    unit: "exchanges",
    help: "Vectors received, by whether they showed that either side lacks something.",
    labels: { outcome: ["equal", "differed"] },
  },
  mesh_orphans: {
    type: "gauge",
    unit: "origins",
    help: "Origins of records whose node is gone: still shown, or hidden.",
    labels: { state: ["orphaned", "hidden"] },
  },
  mesh_kept_origins: {
    type: "gauge",
    unit: "origins",
    help: "Origins whose node stopped and nobody took all of its static entries over: they stand as orphans until it is back.",
    labels: {},
  },
  mesh_taken_over_entries_total: {
    type: "counter",
    unit: "entries",
    help: "Static entries of nodes that left, taken over by this one. What a leaver handed over, left or ended is in its event static_entries_….",
    labels: {},
  },
  mesh_foreign_links_total: {
    type: "counter",
    unit: "links",
    help: "Links to nodes of clusters that fabric.clusters does not name, let in because fabric.trust is permissive.",
    labels: {},
  },
  mesh_orphan_protected: {
    type: "gauge",
    unit: "clusters",
    help: "Clusters of which so many nodes vanished at once that nothing of theirs is hidden.",
    labels: {},
  },
  mesh_digest_exchanges_total: {
    type: "counter",
    unit: "origins",
    help: "Origins compared with a peer by the digest of their live records, by what came of it.",
    labels: { outcome: ["equal", "differed"] },
  },
  mesh_origin_repairs_total: {
    type: "counter",
    unit: "origins",
    help: "Origins asked for anew because a peer that knows better holds other records of them: each time a bug or a bad disk.",
    labels: {},
  },
  mesh_origin_fetches_total: {
    type: "counter",
    unit: "origins",
    help: "Origins of which more was asked: of peers (asked), by peers who got it (given), by peers who asked too often (held_back).",
    labels: { outcome: ["asked", "given", "held_back"] },
  },
  mesh_whole_transfers_total: {
    type: "counter",
    unit: "origins",
    help: "Origins sent to a peer whole: it is new, was away for long, or repairs.",
    labels: {},
  },
  mesh_records_total: {
    type: "counter",
    unit: "records",
    help: "Records sent to other nodes and received from them.",
    labels: { direction: ["sent", "received"] },
  },
  mesh_applied_records_total: {
    type: "counter",
    unit: "records",
    help: "Records from other nodes that changed something here; the other ones received were known.",
    labels: {},
  },
  mesh_refused_records_total: { type: "counter", unit: "records", help: "Records from other nodes refused, each alone.", labels: {} },
  mesh_partial_origins: {
    type: "gauge",
    unit: "origins",
    help: "Origins of which records were refused here: not in step and not passed on until they have come whole.",
    labels: {},
  },
  mesh_clock_skew_total: {
    type: "counter",
    unit: "stamps",
    help: "Stamps of other nodes too far ahead of our clock to move it.",
    labels: {},
  },
  mesh_refused_total: {
    type: "counter",
    unit: "refusals",
    help: "What came from others and was not taken, by what it was; own_call: calls of ours not made, too many were under way.",
    labels: { what: ["peer", "link", "own_call", "call", "stranger", "origin", "policy", "unknown_frame"] },
  },
  mesh_policy_not_taken: {
    type: "gauge",
    unit: "number",
    help: "Number of the newest policy version that linked nodes have and this one does not take; 0: none. PolicyStatus says why.",
    labels: {},
  },
  mesh_refused_updates_total: {
    type: "counter",
    unit: "updates",
    help: "News about members that was not believed, by what is wrong with it.",
    labels: {
      reason: ["status", "number", "ahead", "text", "list", "foreign", "full", "quarantine_full", "too_many", "own_address", "start"],
    },
  },
  mesh_quarantined_members: {
    type: "gauge",
    unit: "nodes",
    help: "Nodes that wait because another member has their address or id.",
    labels: {},
  },
  mesh_refutations_total: {
    type: "counter",
    unit: "times",
    help: "How often this node contradicted others who called it suspect, dead or somewhere else.",
    labels: {},
  },
  mesh_join_attempts_total: { type: "counter", unit: "rounds", help: "Rounds of asking seeds for the table of members.", labels: {} },
  mesh_events_total: {
    type: "counter",
    unit: "events",
    help: "What happened in the mesh, by name as in the log.",
    labels: { event: 100 },
  },
} as const satisfies Record<string, MetricRow>;
