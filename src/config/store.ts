/** Settings for the control store and for leadership: the groups `store`, `leadership` and `shards` of SETTINGS in `settings.ts`. Resolvers refuse them. */
import { LEASE_BOUNDS, RECORD_BOUNDS } from "../lib/bounds.ts";
import { DAY_MS, MINUTE_MS } from "../lib/duration.ts";
import { ADDRESS, bool, choice, int, LABEL, list, ms, PATH, text } from "./field.ts";

export const STORE_SETTINGS = {
  kind: choice({
    choices: ["embedded", "etcd"],
    default: "embedded",
    doc: "Control store, which contains the policy and the leaders. embedded: a file in the data directory, for a single node. etcd: a store that all nodes of the cluster share; it needs store.endpoints.",
  }),
  endpoints: list({
    pattern: ADDRESS,
    what: 'an address such as "10.0.0.1:2379" or "[fd00::1]:2379"',
    maxItems: 16,
    default: [],
    doc: "Client addresses (host:port) of the etcd members; at most 16. One reachable member is enough, if etcd has a quorum.",
  }),
  prefix: text({
    pattern: /^(?:\/[\x21-\x7e]{1,254}\/)?$/,
    what: "a prefix such as /waymark/prod/: 3 to 256 characters of printable ASCII without spaces, starting and ending with /",
    default: "",
    doc: "Prefix of all keys in etcd. Each cluster needs its own prefix. When empty, the prefix is `/waymark/<node.cluster_id>/`, with the id in percent-encoding.",
  }),
  caFile: text({
    ...PATH,
    doc: "PEM file with the CAs that issue the certificates of the etcd members. Setting it turns on TLS. When only store.cert_file is set, the system's CAs are trusted.",
  }),
  certFile: text({
    ...PATH,
    doc: "PEM file with the certificate chain that this node presents to etcd. Setting it turns on TLS.",
  }),
  keyFile: text({ ...PATH, doc: "PEM file with the private key of store.cert_file." }),
  user: text({
    pattern: /^[\x21-\x7e]{1,128}$/,
    what: "1 to 128 characters of printable ASCII without spaces",
    doc: "etcd user that this node authenticates as. When absent, the node does not send a password.",
  }),
  passwordFile: text({ ...PATH, doc: "File with the password of store.user, on one line." }),
  timeoutMs: ms({
    default: 1000,
    min: 100,
    max: 10_000,
    doc: "How long a request to etcd may take before it fails with store_unavailable; at most a third of leadership.lease.",
  }),
  compactIntervalMs: ms({
    default: 5 * MINUTE_MS,
    min: 0,
    max: DAY_MS,
    doc: "Interval at which the leader of global-control removes old revisions from etcd; 0 means never. Set it to 0 if etcd compacts itself (`--auto-compaction-retention`) or has other users that need its history.",
  }),
} as const;

const NAMESPACE = `(?=[^/]{1,${RECORD_BOUNDS.maxNamespaceLength}}/)${LABEL}(?:\\.${LABEL})*`;

export const LEADERSHIP_SETTINGS = {
  leaseMs: ms({
    default: 3000,
    min: LEASE_BOUNDS.minMs,
    max: LEASE_BOUNDS.maxMs,
    doc: "How long a node keeps its scopes without contact to the store. A node renews its session every third of this time. A longer lease tolerates longer outages of the store, but other nodes replace a failed leader later.",
  }),
  candidate: bool({
    perNode: true,
    default: true,
    doc: "Whether this node can become the leader of global-control and of leadership.scopes.",
  }),
  scopes: list({
    perNode: true,
    pattern: new RegExp(`^custom/${NAMESPACE}/[A-Za-z0-9._-]{1,128}$`),
    what: "custom/<namespace>/<name>, such as custom/svc.orders/cleaner",
    maxItems: 1000,
    default: [],
    doc: "Scopes for which this node is a candidate, in addition to global-control; at most 1000.",
  }),
} as const;

export const SHARD_SETTINGS = {
  history: int({
    default: 1000,
    min: 10,
    max: 10_000,
    doc: "Number of changes of each set of shards that the control store keeps for `mesh shards history` and `mesh shards diff`.",
  }),
} as const;
