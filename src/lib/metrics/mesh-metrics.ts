/** Metrics of the mesh: rows of METRICS in `metrics.ts`. */
import { counter, gauge, histogram, OTHER } from "./row.ts";

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
  "summaries",
  "source_ages",
  "border",
  "probe",
  "probe_indirect",
  "push_pull",
  "maintain",
  OTHER,
] as const;

export const MESH_METRICS = {
  mesh_gossip_members: gauge(
    "nodes",
    { status: ["alive", "suspect", "left", "dead"] },
    "Members this node knows of, itself included, by status.",
  ),
  mesh_gossip_rtt_ms: histogram("ms", RTT_MS, {}, "From a probe being sent to its answer."),
  mesh_gossip_messages_total: counter(
    "messages",
    { direction: ["sent", "received"], outcome: ["ok", "failed", "refused"] },
    "Probes and push-pulls: sent ones by outcome, received ones by whether this node answered.",
  ),
  mesh_gossip_queue_updates: gauge("updates", {}, "Membership updates that are waiting to be sent (the gossip queue)."),
  mesh_gossip_fanout: gauge(
    "nodes",
    {},
    "Members that one gossip round reaches: the configured number, or all of them if there are fewer.",
  ),
  mesh_health_score: gauge("1", {}, "This node's estimate of its own overload: 0 (well) to 8 (Lifeguard)."),
  mesh_replication_lag_seconds: gauge(
    "seconds",
    {},
    "Greatest possible age of other nodes' entries here: the time since the slowest peer said that nothing is missing. Before the node is ready it is the age of its snapshot, or the time since 1970 without one. Normal is 1 to 2, and 5 to 10 where not every node has a link to every other.",
  ),
  mesh_links: gauge("links", { state: ["opening", "greeting", "up", "ending"] }, "Replication links by state."),
  mesh_border_links: gauge("links", { state: ["opening", "greeting", "up", "ending"] }, "Links to clusters of other regions by state."),
  mesh_border_neighbours_unlinked: gauge(
    "clusters",
    {},
    "Clusters in fabric.borders whose region is not linked to any node of this region.",
  ),
  mesh_link_frames_total: counter(
    "frames",
    { direction: ["sent", "received"], kind: FRAME_KINDS },
    "Frames on links and calls between nodes, by kind.",
  ),
  mesh_link_bytes_total: counter(
    "bytes",
    { direction: ["sent", "received"], kind: FRAME_KINDS },
    "Bytes of frames on links and of calls between nodes, by kind, without HTTP/2's own.",
  ),
  mesh_vector_exchanges_total: counter(
    "exchanges",
    { outcome: ["equal", "differed"] },
    "Vectors received, by whether they showed that either side lacks something.",
  ),
  mesh_orphans: gauge("origins", { state: ["orphaned", "hidden"] }, "Origins of records whose node is gone: still shown, or hidden."),
  mesh_kept_origins: gauge(
    "origins",
    {},
    "Origins whose node stopped with static entries that no other node took over. These are orphans until the node is back.",
  ),
  mesh_taken_over_entries_total: counter(
    "entries",
    {},
    "Static entries of nodes that left, taken over by this one. What a leaver handed over, left or ended is in its event static_entries_….",
  ),
  mesh_foreign_links_total: counter(
    "links",
    {},
    "Links to nodes of clusters that fabric.clusters does not name, let in because fabric.trust is permissive.",
  ),
  mesh_orphan_protected: gauge("clusters", {}, "Clusters of which so many nodes vanished at once that their entries stay visible."),
  mesh_digest_exchanges_total: counter(
    "origins",
    { outcome: ["equal", "differed"] },
    "Origins compared with a peer by the digest of their live records, by what came of it.",
  ),
  mesh_origin_repairs_total: counter(
    "origins",
    {},
    "Origins fetched again because a peer that is closer to them holds other records. Each case is a bug or a bad disk.",
  ),
  mesh_origin_fetches_total: counter(
    "origins",
    { outcome: ["asked", "given", "held_back"] },
    "Requests for more records of an origin: to peers (asked), from peers and answered (given), from peers that ask too often (held_back).",
  ),
  mesh_whole_transfers_total: counter("origins", {}, "Origins sent to a peer whole: it is new, was away for long, or repairs."),
  mesh_records_total: counter("records", { direction: ["sent", "received"] }, "Records sent to other nodes and received from them."),
  mesh_applied_records_total: counter(
    "records",
    {},
    "Records from other nodes that changed something here; the other ones received were known.",
  ),
  mesh_refused_records_total: counter("records", {}, "Records from other nodes refused, each alone."),
  mesh_partial_origins: gauge(
    "origins",
    {},
    "Origins with refused records, here or at a linked peer when no other peer sent them. They are not in step and not passed on.",
  ),
  mesh_clock_skew_total: counter("stamps", {}, "Stamps of other nodes too far ahead of our clock to move it."),
  mesh_refused_total: counter(
    "refusals",
    { what: ["peer", "link", "border", "own_call", "call", "stranger", "origin", "policy", "unknown_frame"] },
    "Connections, calls, links, records and policies of others that were refused. own_call counts calls of this node that were not made because too many were under way.",
  ),
  mesh_policy_not_taken: gauge(
    "number",
    {},
    "Number of the newest policy version that linked nodes have and this one does not take; 0: none. PolicyStatus says why.",
  ),
  mesh_refused_updates_total: counter(
    "updates",
    {
      reason: [
        "status",
        "number",
        "ahead",
        "text",
        "list",
        "foreign",
        "border",
        "full",
        "conflicts_full",
        "too_many",
        "own_address",
        "start",
      ],
    },
    "Updates about members that were refused, by reason.",
  ),
  mesh_member_conflicts: gauge("nodes", {}, "Newcomers that wait because another member has their address or id."),
  mesh_refutations_total: counter("times", {}, "How often this node contradicted others who called it suspect, dead or somewhere else."),
  mesh_join_attempts_total: counter("rounds", {}, "Rounds of asking seeds for the table of members."),
  mesh_events_total: counter("events", { event: 100 }, "Events of the mesh, by their name in the log."),
} as const;

/** Metrics of summaries: rows of METRICS in `metrics.ts`. */
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
