/** Metrics of the mesh, as rows of METRICS in `metrics.ts`. */
import { counter, gauge, histogram, OTHER } from "./row.ts";

const RTT_MS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 10_000] as const;

const ELECTION_MS = [50, 100, 250, 500, 1000, 1500, 2000, 2500, 3000, 3500, 4000, 5000, 10_000, 60_000] as const;

const HANDOVER_MS = [5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000] as const;

/** Maximum number of namespaces with shards that have metrics of their own. */
const SETS = 1000;

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
    "Members known to this node, including itself, by status.",
  ),
  mesh_gossip_rtt_ms: histogram("ms", RTT_MS, {}, "Round-trip time of probes."),
  mesh_gossip_messages_total: counter(
    "messages",
    { direction: ["sent", "received"], outcome: ["ok", "failed", "refused"] },
    "Probes and push-pulls. Sent messages are counted by outcome, and received messages by whether this node answered.",
  ),
  mesh_gossip_queue_updates: gauge("updates", {}, "Membership updates waiting in the gossip queue."),
  mesh_gossip_fanout: gauge("nodes", {}, "Members reached by one gossip round: the configured number, or all members if there are fewer."),
  mesh_health_score: gauge("1", {}, "This node's estimate of its own overload, from 0 (healthy) to 8 (Lifeguard)."),
  mesh_replication_lag_seconds: gauge(
    "seconds",
    {},
    "Maximum possible age of other nodes' entries on this node: the time since the slowest peer confirmed that nothing is missing. Before the node is ready, the value is the age of its snapshot or, without a snapshot, the time since 1970. Normal values are 1 to 2, or 5 to 10 if some pairs of nodes have no link.",
  ),
  mesh_peers_desired: gauge(
    "nodes",
    { desired: ["active", "cordoned", "drained"] },
    "Members of this node's cluster, including this node, by the state in which operators want them to be.",
  ),
  mesh_drain_left: gauge(
    "items",
    { what: ["leaders", "owners", "leases", "static_entries", "seconds", "watches"] },
    "Items that are left in the current step of this node's drain: entries, leaders, attached owners of shards and watches, or seconds for which its addresses can be in caches. 0 without a drain.",
  ),
  mesh_leadership_transitions_total: counter(
    "transitions",
    {},
    "Scopes that this node began or ceased to lead: elections, resignations, ended sessions and losses.",
  ),
  mesh_leadership_held: gauge("scopes", { kind: ["global-control", "shard", "custom"] }, "Scopes that this node leads now, by kind."),
  mesh_leadership_election_duration_ms: histogram(
    "ms",
    ELECTION_MS,
    {},
    "Time without a leader, for elections that this node won: from the last sign of life of the earlier leader that this node saw.",
  ),
  mesh_leadership_split_brain_total: counter(
    "nodes",
    {},
    "Members of this node's cluster that were found to use another control store than this node.",
  ),
  mesh_shards: gauge(
    "shards",
    { namespace: SETS, status: ["active", "draining", "paused", "disabled", "unowned"] },
    "Shards by namespace and status, as this node knows them. unowned: the shard has no owner, although it is not disabled.",
  ),
  mesh_shard_imbalance_ratio: gauge(
    "ratio",
    { namespace: SETS },
    "Largest load of an owner, divided by its fair share by weight. 1 is balanced; owners above 1.1 give shards away.",
  ),
  mesh_shard_slots_used_ratio: gauge(
    "ratio",
    { namespace: SETS },
    "Largest share of its slots that an owner uses. 0 if no owner has slots.",
  ),
  mesh_shard_moves_total: counter(
    "moves",
    { reason: ["plan", "leaving", "ended", "unowned"], outcome: ["done", "failed"] },
    "Moves that ended while this node was the controller of the shards: to balance the set (plan), because the owner was leaving or had ended, or because the shard had no owner. failed: the shard stayed with its owner, or lost it and got no other.",
  ),
  mesh_shard_handover_ms: histogram(
    "ms",
    HANDOVER_MS,
    {},
    "Time without new work during a move, while this node was the controller: from the start of draining until the shard has its next owner.",
  ),
  mesh_rebalance_state: gauge(
    "boolean",
    { namespace: SETS, state: ["steady", "investigating", "rebalance-pending", "draining", "rebalancing"] },
    "1 for the state of the shards of a namespace, and 0 for the other states.",
  ),
  mesh_links: gauge("links", { state: ["opening", "greeting", "up", "ending"] }, "Replication links, by state."),
  mesh_border_links: gauge("links", { state: ["opening", "greeting", "up", "ending"] }, "Links to clusters in other regions, by state."),
  mesh_border_neighbours_unlinked: gauge("clusters", {}, "Clusters in fabric.borders whose region has no link to any node of this region."),
  mesh_link_frames_total: counter(
    "frames",
    { direction: ["sent", "received"], kind: FRAME_KINDS },
    "Frames on links and in calls between nodes, by kind.",
  ),
  mesh_link_bytes_total: counter(
    "bytes",
    { direction: ["sent", "received"], kind: FRAME_KINDS },
    "Bytes of frames on links and in calls between nodes, by kind, without HTTP/2 overhead.",
  ),
  mesh_vector_exchanges_total: counter(
    "exchanges",
    { outcome: ["equal", "differed"] },
    "Version vectors received, by result: equal, or differed (one side lacks changes).",
  ),
  mesh_orphans: gauge(
    "origins",
    { state: ["orphaned", "hidden"] },
    "Source nodes that are unreachable, by whether their entries are still served (orphaned) or hidden.",
  ),
  mesh_kept_origins: gauge(
    "origins",
    {},
    "Stopped source nodes with static entries that no other node took over. The entries are orphaned until the node returns.",
  ),
  mesh_taken_over_entries_total: counter(
    "entries",
    {},
    "Static entries of leaving nodes that this node took over. The static_entries_… event of a leaving node reports how many entries it handed over, left behind or ended.",
  ),
  mesh_foreign_links_total: counter(
    "links",
    {},
    "Links to nodes of clusters that fabric.clusters does not name, which are accepted because fabric.trust is permissive.",
  ),
  mesh_orphan_protected: gauge("clusters", {}, "Clusters that lost so many nodes at the same time that their entries stay visible."),
  mesh_digest_exchanges_total: counter(
    "origins",
    { outcome: ["equal", "differed"] },
    "Source nodes whose live records were compared with a peer's records by digest, by result.",
  ),
  mesh_origin_repairs_total: counter(
    "origins",
    {},
    "Source nodes whose records were fetched again, because a peer closer to them has different records. Each case indicates a bug or a faulty disk.",
  ),
  mesh_origin_fetches_total: counter(
    "origins",
    { outcome: ["asked", "given", "held_back"] },
    "Requests for more records of a source node: sent to peers (asked), answered for peers (given), or delayed because a peer sends them too often (held_back).",
  ),
  mesh_whole_transfers_total: counter(
    "origins",
    {},
    "Complete transfers of a source node's records to a peer that is new, was disconnected for a long time, or is repairing its copy.",
  ),
  mesh_records_total: counter("records", { direction: ["sent", "received"] }, "Records sent to and received from other nodes."),
  mesh_applied_records_total: counter(
    "records",
    {},
    "Records received from other nodes that changed this node's data. All other received records were already known.",
  ),
  mesh_refused_records_total: counter("records", {}, "Individual records from other nodes that were refused."),
  mesh_partial_origins: gauge(
    "origins",
    {},
    "Source nodes with records that this node or a linked peer refused, and that no other peer has sent. These source nodes are not in sync, and their records are not forwarded.",
  ),
  mesh_clock_skew_total: counter(
    "stamps",
    {},
    "Timestamps from other nodes that did not advance this node's clock, because they were too far ahead.",
  ),
  mesh_refused_total: counter(
    "refusals",
    { what: ["peer", "link", "border", "own_call", "call", "stranger", "origin", "policy", "unknown_frame"] },
    "Connections, calls, links, records and policies from other nodes that were refused. own_call counts calls that this node did not make because too many were in flight.",
  ),
  mesh_policy_not_taken: gauge(
    "number",
    {},
    "Number of the latest policy version that linked nodes have but this node does not accept; 0 means none. PolicyStatus shows the reason.",
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
    "Refused membership updates, by reason.",
  ),
  mesh_member_conflicts: gauge("nodes", {}, "New members that must wait because another member has their address or id."),
  mesh_refutations_total: counter(
    "times",
    {},
    "Number of times that this node refuted a report that it is suspect, dead or at another address.",
  ),
  mesh_join_attempts_total: counter("rounds", {}, "Rounds in which this node requested the member list from its seeds."),
  mesh_events_total: counter("events", { event: 100 }, "Mesh events, by the event name in the log."),
} as const;

/** Metrics of summaries, as rows of METRICS in `metrics.ts`. */
export const SUMMARY_METRICS = {
  discovery_summary_exports_total: counter(
    "summaries",
    { outcome: ["exported", "withdrawn", "failed"] },
    "Summaries that this node created for its cluster: exported, withdrawn, or failed because the key is missing, there is no room, or no other cluster would accept them.",
  ),
  discovery_summary_hold_downs_total: counter(
    "changes",
    {},
    "Service changes whose summary was delayed, because it is sent at most once per summary.hold_down.",
  ),
  discovery_summary_refusals_total: counter(
    "summaries",
    {
      reason: ["unsigned", "unknown_key", "bad_signature", "stale", "future", "older", "not_owner", "echo", "conflict", "limit", OTHER],
    },
    "Summaries and beacons from borders that were refused, or accepted but not shown, by reason.",
  ),
  discovery_summaries: gauge(
    "summaries",
    { state: ["fresh", "stale", "dropped"] },
    "Stored summaries, by the state of their source: stale means that no beacon arrived within its TTL.",
  ),
  discovery_summary_clusters: gauge(
    "clusters",
    { state: ["fresh", "stale", "gone"] },
    "Clusters in other regions, by state. Only clusters with a key in this node's settings are counted, or with a border if summary.require_signatures is off. stale: no beacon arrived within the TTL. gone: data from the cluster is no longer shown, or was never shown.",
  ),
  discovery_summary_exporters: gauge(
    "nodes",
    {},
    "Live nodes that are known to export this cluster's summaries. 0: the cluster exports nothing. Absent if exporting is not configured for the cluster (summary.export_enabled).",
    "largest",
  ),
  summary_export_lag_seconds: gauge(
    "seconds",
    {},
    "Age of the oldest summary that must be sent to another region but has not been accepted there yet, because the link is slow or missing. 0 when nothing is due.",
    "largest",
  ),
} as const;
