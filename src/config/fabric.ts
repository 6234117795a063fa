/** Settings of membership and replication between nodes: the group `fabric` of SETTINGS in `settings.ts`. */
import { NODE_BOUNDS } from "../lib/bounds.ts";
import { DAY_MS, HOUR_MS, MINUTE_MS } from "../lib/duration.ts";
import { BORDERS } from "./borders.ts";
import { ADDRESS, bool, choice, ID, int, list, ms, PATH, port, ratio, text } from "./field.ts";
import { AT_RESOLVER } from "./resolver.ts";

export const FABRIC_SETTINGS = {
  enabled: bool({
    notForResolver: AT_RESOLVER.fabric,
    doc: "Listen for other nodes and replicate with them; when off, the node stands alone. When absent it is on, with one exception: a node without fabric token, certificates and seeds stands alone if other settings protect it (credentials, tenants, TLS, a policy).",
  }),
  port: port({
    default: 17_421,
    flag: "--fabric-port <port>",
    doc: "Port of the fabric listener, which only other nodes talk to; 0 means any free port.",
  }),
  advertisePort: port({
    default: 0,
    doc: "Port at which other nodes reach this node's fabric, together with listen.advertise_host; set it behind a forwarder. 0 means the port that it listens on.",
  }),
  seeds: list({
    notForResolver: AT_RESOLVER.fabric,
    pattern: ADDRESS,
    what: 'an address such as "10.0.0.1:17421" or "[fd00::1]:17421"',
    maxItems: NODE_BOUNDS.maxSeeds,
    default: [],
    flag: "--join <addresses>",
    doc: "Fabric addresses (host:port) of nodes to join by. One that answers is enough; this node learns the others from it.",
  }),
  joinTimeoutMs: ms({
    default: 5000,
    min: 100,
    max: HOUR_MS,
    doc: "Time without an answer from any of fabric.seeds after which a node serves alone, once each seed was asked or 30 s more have passed. It keeps trying.",
  }),
  onStop: choice({
    notForResolver: AT_RESOLVER.records,
    choices: ["leave", "keep"],
    default: "leave",
    flag: "--on-stop <what>",
    doc: "What a stop does with this node's entries while other nodes of its cluster are alive: leave ends those with a lease and hands static ones over to other nodes; keep leaves them until the node is back. A node that is alone keeps them.",
  }),
  clusterTokenFile: text({
    notForResolver: AT_RESOLVER.fabric,
    ...PATH,
    flag: "--cluster-token-file <file>",
    doc: "File with the token that nodes of this cluster show each other: one line of 16 to 1024 printable characters. A second line, for the time of a change, holds another token that is accepted too. Read again on SIGHUP.",
  }),
  certFile: text({
    notForResolver: AT_RESOLVER.fabric,
    ...PATH,
    doc: "PEM file with this node's certificate for the fabric. Its only URI name must be spiffe://<trust domain>/waymark/cluster/<cluster>/node/<node>.",
  }),
  keyFile: text({ ...PATH, doc: "PEM file with the private key of fabric.cert_file." }),
  caFile: text({
    ...PATH,
    doc: "PEM file with the authorities that certificates of other nodes must come from. The certificates must be of the same trust domain.",
  }),
  trust: choice({
    choices: ["strict", "explicit", "permissive"],
    default: "strict",
    doc: "Which other clusters of the region are let in: strict means those of fabric.clusters, and only with certificates; explicit means those of fabric.clusters; permissive means all, with a warning. Nodes of all other clusters are foreign: this node takes no members, records or policy from them. Give all nodes of a cluster the same value.",
  }),
  clusters: list({
    ...ID,
    default: [],
    doc: "Other clusters whose nodes are let in; see fabric.trust.",
  }),
  borders: { ...BORDERS, notForResolver: AT_RESOLVER.fabric },
  maxLinks: int({
    default: 20,
    min: 1,
    max: 200,
    doc: "Replication links a node keeps. While it has at most this many peers, it has a link to each.",
  }),
  intervalMs: ms({ default: 1000, min: 50, max: MINUTE_MS, doc: "Time between two probes of members." }),
  pingTimeoutMs: ms({
    default: 500,
    min: 10,
    max: MINUTE_MS,
    doc: "Time that a probed member has to answer before other members are asked to probe it.",
  }),
  suspicionMultiplier: int({
    default: 4,
    min: 1,
    max: 100,
    doc: "A suspected member has this many intervals to refute the suspicion, times the decimal logarithm of the number of members if that is above 1.",
  }),
  suspicionMinMs: ms({
    default: 0,
    min: 0,
    max: HOUR_MS,
    doc: "Least time that a suspected member has to refute the suspicion, whatever the multiplier says. 0 means no such minimum, but 5 intervals in a cluster of fewer than five members.",
  }),
  fanout: int({ default: 3, min: 1, max: 64, doc: "Members that are told of news in each round of gossip." }),
  retransmitMultiplier: int({
    default: 4,
    min: 1,
    max: 100,
    doc: "How often a node sends news of a member: this many times the decimal logarithm of the number of members, rounded up.",
  }),
  metadataRefreshMs: ms({
    default: 0,
    min: 0,
    max: DAY_MS,
    doc: "Time after which a node announces its facts (roles, labels, address) again although nothing changed; at least fabric.interval. 0 means that it announces changes only.",
  }),
  orphanGraceMs: ms({
    default: 5 * MINUTE_MS,
    min: 1000,
    max: DAY_MS,
    doc: "How long entries of a node that died are served, ranked last, before they are hidden; at most half of fabric.origin_forget.",
  }),
  originForgetMs: ms({
    default: DAY_MS,
    min: MINUTE_MS,
    max: 30 * DAY_MS,
    doc: "How long after a node's death its records are kept, hidden, for its return; at least twice fabric.orphan_grace.",
  }),
  orphanProtectRatio: ratio({
    default: 0.5,
    doc: "When more than this part of a cluster's nodes vanishes at once, their entries are not hidden: it is more likely that this node is cut off.",
  }),
  maxClockSkewMs: ms({
    default: MINUTE_MS,
    min: 100,
    max: HOUR_MS,
    doc: "How far another node's clock may be ahead before its stamps no longer move this node's, and how far this node's clock may be from most others before it refuses writes.",
  }),
  maxOriginRecords: int({
    default: 2_000_000,
    min: 1000,
    max: 100_000_000,
    doc: "Records kept of one other node. Beyond that, its records here are partial: not in step, not passed on, and fetched again now and then.",
  }),
  snapshotIntervalMs: ms({
    default: MINUTE_MS,
    min: 0,
    max: DAY_MS,
    doc: "Time between two snapshots of what other nodes told. A restart serves from the snapshot at once. 0 means no snapshots.",
  }),
} as const;
