/** Settings of how nodes find each other and replicate: the group `fabric` of SETTINGS in settings.ts, which is where to look first. */
import { choice, int, list, ms, optionalBool, optionalText, port, ratio } from "./field.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const PATH = { pattern: /^[^\0]{1,4096}$/, what: "a file path" } as const;
/** An IPv6 literal stands in brackets. */
const ADDRESS = {
  pattern:
    /^(?:\[[0-9a-fA-F:.]{2,45}(?:%[A-Za-z0-9]{1,16})?\]|[A-Za-z0-9._-]{1,253}):(?:[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])$/,
  what: 'an address such as "10.0.0.1:17421" or "[fd00::1]:17421"',
} as const;

export const FABRIC_SETTINGS = {
  enabled: optionalBool({
    doc: "Listen for other nodes and replicate with them; off, the node stands alone. When absent it is on, but for a node without token, certificates and seeds that something else protects (credentials, tenants, TLS, a policy): that one stands alone.",
  }),
  port: port({
    default: 17_421,
    flag: "--fabric-port <port>",
    doc: "Port of the fabric listener, which only other nodes talk to; 0 means any free port.",
  }),
  advertisePort: port({
    default: 0,
    doc: "Port that other nodes are told to reach this node's fabric at, with listen.advertise_host, where it is behind a forwarder; 0 means the port that it listens on.",
  }),
  seeds: list({
    ...ADDRESS,
    default: [],
    flag: "--join <addresses>",
    doc: "Fabric addresses (host:port) of nodes to join by; one that answers is enough, the rest is learned from it.",
  }),
  joinTimeoutMs: ms({
    default: 5000,
    min: 100,
    max: HOUR_MS,
    doc: "Time without an answer from any of fabric.seeds after which a node serves alone, when each was asked or 30 s more have passed; it keeps trying.",
  }),
  onStop: choice({
    choices: ["leave", "keep"],
    default: "leave",
    flag: "--on-stop <what>",
    doc: "What a stop makes of this node's entries while other nodes of its cluster are alive: leave ends those with a lease and hands static ones over to other nodes, keep lets them stand until it is back. Alone, a node keeps them.",
  }),
  clusterTokenFile: optionalText({
    ...PATH,
    flag: "--cluster-token-file <file>",
    doc: "File with the token that nodes of this cluster show each other; one line of 16 to 1024 printable characters. While it is changed, a second line with another that is taken as well. Read again on SIGHUP.",
  }),
  certFile: optionalText({
    ...PATH,
    doc: "PEM file with this node's certificate for the fabric; its one URI name must be spiffe://<trust domain>/waymark/cluster/<cluster>/node/<node>.",
  }),
  keyFile: optionalText({ ...PATH, doc: "PEM file with the private key of fabric.cert_file." }),
  caFile: optionalText({
    ...PATH,
    doc: "PEM file with the authorities that certificates of other nodes must come from; they must be of the same trust domain.",
  }),
  trust: choice({
    choices: ["strict", "explicit", "permissive"],
    default: "strict",
    doc: "Which other clusters of the region are let in: strict those of fabric.clusters, and only with certificates; explicit those of fabric.clusters; permissive all, with a warning. Nodes of others are foreign: no members, no records, no policy. Give all nodes of a cluster the same.",
  }),
  clusters: list({
    pattern: /^[A-Za-z0-9._:/@+-]{1,64}$/,
    what: "1 to 64 of A-Z a-z 0-9 . _ : / @ + -",
    default: [],
    doc: "Other clusters whose nodes are let in; see fabric.trust.",
  }),
  maxLinks: int({ default: 20, min: 1, max: 200, doc: "Replication links a node keeps; up to this many peers every one has a link." }),
  intervalMs: ms({ default: 1000, min: 50, max: MINUTE_MS, doc: "Time between two probes of members." }),
  pingTimeoutMs: ms({
    default: 500,
    min: 10,
    max: MINUTE_MS,
    doc: "Time a probed member has to answer before others are asked to probe it.",
  }),
  suspicionMultiplier: int({
    default: 4,
    min: 1,
    max: 100,
    doc: "A suspected member has this many intervals, times the decimal logarithm of the members when it is above 1, to refute it.",
  }),
  suspicionMinMs: ms({
    default: 0,
    min: 0,
    max: HOUR_MS,
    doc: "Time that a suspected member has at least to refute it, however few intervals the multiplier makes of it; 0 means what the multiplier says, and 5 intervals in a cluster of fewer than five.",
  }),
  fanout: int({ default: 3, min: 1, max: 64, doc: "Members that are told of news in each round of gossip." }),
  retransmitMultiplier: int({
    default: 4,
    min: 1,
    max: 100,
    doc: "A node sends news of a member this many times, times the decimal logarithm of the members, rounded up.",
  }),
  metadataRefreshMs: ms({
    default: 0,
    min: 0,
    max: 24 * HOUR_MS,
    doc: "Time after which a node tells the others anew what it is (roles, labels, address), though nothing changed; 0 means that it only tells changes. At least fabric.interval.",
  }),
  orphanGraceMs: ms({
    default: 5 * MINUTE_MS,
    min: 1000,
    max: 24 * HOUR_MS,
    doc: "How long entries of a node that died are served, ranked last, before they are hidden; at most half of fabric.origin_forget.",
  }),
  originForgetMs: ms({
    default: 24 * HOUR_MS,
    min: MINUTE_MS,
    max: 720 * HOUR_MS,
    doc: "How long after its death a node's records are kept hidden, for its return; at least twice fabric.orphan_grace.",
  }),
  orphanProtectRatio: ratio({
    default: 0.5,
    doc: "When more than this part of a cluster's nodes vanishes at once, nothing of theirs is hidden: more likely it is we who are cut off.",
  }),
  maxClockSkewMs: ms({
    default: MINUTE_MS,
    min: 100,
    max: HOUR_MS,
    doc: "How far ahead another node's clock may be before its stamps no longer move ours, and how far ours may be from most others' before this node takes no writes.",
  }),
  maxOriginRecords: int({
    default: 2_000_000,
    min: 1000,
    max: 100_000_000,
    doc: "Records kept of one other node; beyond it that node's are partial here: not in step, not passed on, fetched again now and then.",
  }),
  snapshotIntervalMs: ms({
    default: MINUTE_MS,
    min: 0,
    max: 24 * HOUR_MS,
    doc: "Time between two snapshots of what other nodes told, from which a restart serves at once; 0 means none.",
  }),
} as const;
