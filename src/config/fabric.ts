/** Settings for membership and replication between nodes: the group `fabric` of SETTINGS in `settings.ts`. */
import { NODE_BOUNDS } from "../lib/bounds.ts";
import { DAY_MS, HOUR_MS, MINUTE_MS } from "../lib/duration.ts";
import { BORDERS } from "./borders.ts";
import { ADDRESS, bool, choice, ID, int, list, ms, port, RELOADED_FILE, ratio, text } from "./field.ts";
import { AT_RESOLVER } from "./resolver.ts";

export const FABRIC_SETTINGS = {
  enabled: bool({
    notForResolver: AT_RESOLVER.fabric,
    doc: "Listen for other nodes and replicate with them. When off, the node is standalone. It is on by default, with one exception: a node that has no fabric token, certificates or seeds is standalone if other settings protect it (credentials, tenants, TLS or a policy).",
  }),
  port: port({
    default: 17_421,
    flag: "--fabric-port <port>",
    doc: "Port of the fabric listener, which only other nodes use; 0 means any free port.",
  }),
  advertisePort: port({
    default: 0,
    doc: "Fabric port that this node advertises to other nodes, together with listen.advertise_host. Set it if a port forwarder changes the port. 0 means the port that the node listens on.",
  }),
  seeds: list({
    perNode: true,
    notForResolver: AT_RESOLVER.fabric,
    pattern: ADDRESS,
    what: 'an address such as "10.0.0.1:17421" or "[fd00::1]:17421"',
    maxItems: NODE_BOUNDS.maxSeeds,
    default: [],
    flag: "--join <addresses>",
    doc: "Fabric addresses (host:port) of nodes to contact first. One reachable seed is enough: this node learns the other members from it.",
  }),
  joinTimeoutMs: ms({
    default: 5000,
    min: 100,
    max: HOUR_MS,
    doc: "How long a starting node waits for an answer from its seeds. After this time, the node serves without peers as soon as it has contacted every seed, or after another 30 s. The node keeps trying to join.",
  }),
  onStop: choice({
    notForResolver: AT_RESOLVER.records,
    choices: ["leave", "keep"],
    default: "leave",
    flag: "--on-stop <action>",
    doc: "How this node's entries are handled when the node stops while other nodes of its cluster are alive. leave removes leased entries and hands static entries over to other nodes; keep leaves all entries in the catalog until the node returns. A node without peers always keeps its entries.",
  }),
  clusterTokenFile: text({
    notForResolver: AT_RESOLVER.fabric,
    ...RELOADED_FILE,
    flag: "--cluster-token-file <file>",
    doc: "File with the token that nodes of this cluster present to each other: one line of 16 to 1024 printable characters. During a token change, a second line can contain another token that is also accepted. The file is reread on SIGHUP.",
  }),
  certFile: text({
    notForResolver: AT_RESOLVER.fabric,
    ...RELOADED_FILE,
    doc: "PEM file with this node's certificate for the fabric. Its only URI SAN must be spiffe://<trust domain>/waymark/cluster/<cluster>/node/<node>.",
  }),
  keyFile: text({ ...RELOADED_FILE, doc: "PEM file with the private key of fabric.cert_file." }),
  caFile: text({
    ...RELOADED_FILE,
    doc: "PEM file with the CAs that issue the certificates of other nodes. These certificates must have the same trust domain as fabric.cert_file.",
  }),
  crlFile: text({
    ...RELOADED_FILE,
    doc: "PEM file with the certificate revocation lists of all CAs in fabric.ca_file and of their intermediates. Nodes are refused if their certificate is in a list, or if the list of their CA is missing or has expired. Borders are not affected.",
  }),
  trust: choice({
    choices: ["strict", "explicit", "permissive"],
    default: "strict",
    doc: "Other clusters of the region whose nodes may link to this node. strict: the clusters in fabric.clusters, with certificates only. explicit: the clusters in fabric.clusters. permissive: all clusters, with a warning. Nodes of other clusters are foreign: this node does not accept members, records or policy from them. Use the same value on all nodes of a cluster.",
  }),
  clusters: list({
    ...ID,
    default: [],
    doc: "Other clusters whose nodes may link to this node; see fabric.trust.",
  }),
  // Only some nodes of a cluster have links to other regions.
  borders: { ...BORDERS, notForResolver: AT_RESOLVER.fabric, perNode: true },
  maxLinks: int({
    default: 20,
    min: 1,
    max: 200,
    doc: "Maximum number of replication links of this node. A node with at most this many peers has a link to each of them.",
  }),
  intervalMs: ms({
    default: 1000,
    min: 50,
    max: MINUTE_MS,
    doc: "Time between two member probes. Raise it, together with fabric.ping_timeout, on a slow network.",
  }),
  pingTimeoutMs: ms({
    default: 500,
    min: 10,
    max: MINUTE_MS,
    doc: "How long a member has to answer a probe before other members are asked to probe it. It must be less than fabric.interval.",
  }),
  suspicionMultiplier: int({
    default: 4,
    min: 1,
    max: 100,
    doc: "Suspicion factor. Number of intervals in which a member can refute a suspicion; it is multiplied by log10 of the number of members if that is above 1.",
  }),
  suspicionMinMs: ms({
    default: 0,
    min: 0,
    max: HOUR_MS,
    doc: "Minimum time that a suspected member has to refute the suspicion. 0 means no minimum, except in a cluster of fewer than five members, where the minimum is 5 intervals.",
  }),
  fanout: int({ default: 3, min: 1, max: 64, doc: "Number of members that receive updates in each gossip round." }),
  retransmitMultiplier: int({
    default: 4,
    min: 1,
    max: 100,
    doc: "Retransmission factor. Number of times that a membership update is sent; it is multiplied by log10 of the number of members and rounded up.",
  }),
  metadataRefreshMs: ms({
    default: 0,
    min: 0,
    max: DAY_MS,
    doc: "Time after which a node announces its roles, labels and address again even if they have not changed; at least fabric.interval. 0 means that it announces only changes.",
  }),
  orphanGraceMs: ms({
    default: 5 * MINUTE_MS,
    min: 1000,
    max: DAY_MS,
    doc: "How long the entries of a dead node are still served, ranked last, before they are hidden; at most half of fabric.origin_forget.",
  }),
  originForgetMs: ms({
    default: DAY_MS,
    min: MINUTE_MS,
    max: 30 * DAY_MS,
    doc: "How long a dead node's hidden records are kept in case the node returns; at least twice fabric.orphan_grace.",
  }),
  orphanProtectRatio: ratio({
    default: 0.5,
    doc: "If more than this fraction of a cluster's nodes disappears at the same time, their entries are not hidden, because this node is more likely to be partitioned itself.",
  }),
  maxClockSkewMs: ms({
    default: MINUTE_MS,
    min: 100,
    max: HOUR_MS,
    doc: "Tolerated clock difference. Timestamps from a node whose clock is ahead by more than this do not advance this node's clock. This node refuses writes if its own clock differs from most other clocks by more than this.",
  }),
  maxOriginRecords: int({
    default: 2_000_000,
    min: 1000,
    max: 100_000_000,
    doc: "Maximum number of records that are stored per remote node. Above this limit, the copy of that node's records is partial: it is not in sync, is not forwarded to peers, and is fetched again periodically.",
  }),
  snapshotIntervalMs: ms({
    default: MINUTE_MS,
    min: 0,
    max: DAY_MS,
    doc: "Time between two snapshots of the data received from other nodes. A restarted node serves from its snapshot immediately. 0 means no snapshots.",
  }),
} as const;
