/** Settings of the service summaries that clusters and regions exchange: the group `summary` of SETTINGS in `settings.ts`. */
import { DAY_MS, HOUR_MS, MINUTE_MS } from "../lib/duration.ts";
import { bool, choice, ID, int, list, ms, PATH, PUBLIC_KEY, text } from "./field.ts";
import { rows } from "./field-table.ts";
import { AT_RESOLVER } from "./resolver.ts";

const NAMESPACE_PREFIX = {
  pattern: /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/,
  what: "a namespace such as svc.market",
} as const;

export const SUMMARY_SETTINGS = {
  exportEnabled: bool({
    notForResolver: AT_RESOLVER.records,
    doc: "Make summaries of this cluster's services. When absent it is on where fabric.borders are set, or a key of this cluster is (summary.signing_key_file, or its row in summary.keys). Without the signing key at any live node the cluster exports nothing, and says so.",
  }),
  exportScope: choice({
    notForResolver: AT_RESOLVER.records,
    choices: ["zone", "region", "global"],
    default: "global",
    doc: "The widest channel on which this cluster exports summaries. Only summaries on the channel global cross regions.",
  }),
  exportNamespaces: list({
    notForResolver: AT_RESOLVER.records,
    ...NAMESPACE_PREFIX,
    default: [],
    doc: "Namespaces, with those below them, whose services are summarised. Empty means all that the policy lets out.",
  }),
  includeUnscoped: bool({
    notForResolver: AT_RESOLVER.records,
    default: true,
    doc: "Whether a namespace whose rule lists no export scopes, or that has no rule, is exported on the channel of summary.export_scope. When off, only scopes that a rule lists leave.",
  }),
  exportIntervalMs: ms({
    notForResolver: AT_RESOLVER.records,
    default: 30_000,
    min: 1000,
    max: HOUR_MS,
    doc: "Least time between two summaries of a service of which only the count or the latency differs.",
  }),
  holdDownMs: ms({
    notForResolver: AT_RESOLVER.records,
    default: 5000,
    min: 100,
    max: 10 * MINUTE_MS,
    doc: "Least time between two summaries of a service. A new service, and one that the policy takes back, do not wait.",
  }),
  ttlMs: ms({
    default: 120_000,
    min: 3000,
    max: HOUR_MS,
    doc: "How long a beacon of a cluster confirms its summaries; after that they are stale. It is also how long readers may keep a summary on the channel global, and what is chosen by it; one on region they may keep for half of it, and one on zone for a quarter. A beacon goes out each third of it. Give all clusters the same value.",
  }),
  staleKeepMs: ms({
    default: 10 * MINUTE_MS,
    min: 0,
    max: DAY_MS,
    doc: "How long summaries of a cluster that sends no beacons any more are shown as stale before they are dropped.",
  }),
  maxClockSkewMs: ms({
    default: 10 * MINUTE_MS,
    min: 1000,
    max: DAY_MS,
    doc: "How far the time in a summary or beacon may be from this node's clock when it arrives.",
  }),
  pruneIntervalMs: ms({
    notForResolver: AT_RESOLVER.records,
    default: 30_000,
    min: 1000,
    max: HOUR_MS,
    doc: "Time between two rounds that drop what is over: withdrawals that need not be remembered any more, sources that are gone, and traces of summaries that ended.",
  }),
  storeForwardMs: ms({
    notForResolver: AT_RESOLVER.records,
    default: 300_000,
    min: 1000,
    max: DAY_MS,
    doc: "How old a summary may be that waits for a border link. Beyond that the list of waiting ones is dropped, and the two sides compare what they hold.",
  }),
  storeForwardMaxMessages: int({
    notForResolver: AT_RESOLVER.records,
    default: 200,
    min: 1,
    max: 20_000,
    doc: "Most messages that wait for a border link; see summary.store_forward.",
  }),
  signingKeyFile: text({
    notForResolver: AT_RESOLVER.records,
    ...PATH,
    doc: "PEM file with the Ed25519 private key with which this cluster signs its summaries. Only a node that has it exports. Read again on SIGHUP.",
  }),
  requireSignatures: bool({
    default: true,
    doc: "Take only summaries that are signed by a key of their cluster (summary.keys, fabric.borders[].keys). When off, unsigned ones are also taken of clusters that fabric.borders names and for which neither place has a key; every neighbour, and every node of the region, may then speak for them.",
  }),
  resolverScopes: list({
    pattern: /^(?:zone|region|global)$/,
    what: "zone, region or global",
    maxItems: 3,
    default: [],
    doc: "Channels of which a resolver follows the summaries of its upstreams, to answer SummaryQuery, SummaryWatch and redirects. Empty: it follows none. Only for a resolver.",
  }),
  resolverNamespaces: list({
    ...NAMESPACE_PREFIX,
    maxItems: 1000,
    default: [],
    doc: "Namespaces, with those below them, of which a resolver follows summaries. Empty means those of resolver.namespaces, or all if that is empty too. Only for a resolver.",
  }),
  keys: rows({
    doc: "Keys of other clusters, and of this one for the nodes that do not sign, with the region of the cluster. Nothing that a cluster says of itself adds a region. The keys of a neighbour may stand in fabric.borders[].keys instead; all of both count.",
    fields: {
      clusterId: text({ ...ID, default: "", doc: "The cluster that signs with this key." }),
      region: text({ ...ID, default: "", doc: "Region of the cluster." }),
      publicKey: text({
        ...PUBLIC_KEY,
        default: "",
        doc: "The Ed25519 public key: 32 bytes in base64.",
      }),
    },
    required: ["clusterId", "region", "publicKey"],
  }),
} as const;
