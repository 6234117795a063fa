/** Settings for service summaries that clusters and regions exchange: the group `summary` of SETTINGS in `settings.ts`. */
import { DAY_MS, HOUR_MS, MINUTE_MS } from "../lib/duration.ts";
import { bool, choice, ID, int, list, ms, PUBLIC_KEY, RELOADED_FILE, text } from "./field.ts";
import { rows } from "./field-table.ts";
import { AT_RESOLVER } from "./resolver.ts";

const NAMESPACE_PREFIX = {
  pattern: /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/,
  what: "a namespace such as svc.market",
} as const;

export const SUMMARY_SETTINGS = {
  exportEnabled: bool({
    notForResolver: AT_RESOLVER.records,
    doc: "Export summaries of this cluster's services. It is on by default if this cluster has fabric.borders, summary.signing_key_file or a key in summary.keys. If no live node has the signing key, the cluster exports nothing and reports the missing exporter.",
  }),
  exportScope: choice({
    notForResolver: AT_RESOLVER.records,
    choices: ["zone", "region", "global"],
    default: "global",
    doc: "Widest channel on which this cluster exports summaries. Only summaries on the global channel cross regions.",
  }),
  exportNamespaces: list({
    notForResolver: AT_RESOLVER.records,
    ...NAMESPACE_PREFIX,
    default: [],
    doc: "Namespaces, including those below them, whose services are summarised. Empty means all namespaces that policy exports.",
  }),
  includeUnscoped: bool({
    notForResolver: AT_RESOLVER.records,
    default: true,
    doc: "Export namespaces that have no rule, or whose rule lists no export scopes, on the channel of summary.export_scope. When off, only scopes that a rule lists are exported.",
  }),
  exportIntervalMs: ms({
    notForResolver: AT_RESOLVER.records,
    default: 30_000,
    min: 1000,
    max: HOUR_MS,
    doc: "Minimum time between two summaries of a service that differ only in count or latency.",
  }),
  holdDownMs: ms({
    notForResolver: AT_RESOLVER.records,
    default: 5000,
    min: 100,
    max: 10 * MINUTE_MS,
    doc: "Minimum time between two summaries of a service. New services, and services that policy withdraws, are not delayed.",
  }),
  ttlMs: ms({
    default: 120_000,
    min: 3000,
    max: HOUR_MS,
    doc: "Time for which a beacon from a cluster confirms the cluster's summaries; after that, they are stale. Readers may cache a summary for this time on the global channel, for half of it on the region channel, and for a quarter on the zone channel. Beacons are sent at intervals of a third of this time. Use the same value in all clusters.",
  }),
  staleKeepMs: ms({
    default: 10 * MINUTE_MS,
    min: 0,
    max: DAY_MS,
    doc: "How long the summaries of a cluster are shown as stale, if no beacon arrives, before they are dropped.",
  }),
  maxClockSkewMs: ms({
    default: 10 * MINUTE_MS,
    min: 1000,
    max: DAY_MS,
    doc: "Maximum difference between the time in an arriving summary or beacon and this node's clock.",
  }),
  pruneIntervalMs: ms({
    notForResolver: AT_RESOLVER.records,
    default: 30_000,
    min: 1000,
    max: HOUR_MS,
    doc: "Interval at which expired data is removed: old withdrawals, sources that are gone, and the remaining data of summaries that have ended.",
  }),
  storeForwardMs: ms({
    notForResolver: AT_RESOLVER.records,
    default: 300_000,
    min: 1000,
    max: DAY_MS,
    doc: "Maximum age of a summary that waits for a border link. Above this age, the queue is dropped, and the two sides compare their summaries instead.",
  }),
  storeForwardMaxMessages: int({
    notForResolver: AT_RESOLVER.records,
    default: 200,
    min: 1,
    max: 20_000,
    doc: "Maximum number of messages that wait for a border link; see summary.store_forward.",
  }),
  signingKeyFile: text({
    notForResolver: AT_RESOLVER.records,
    ...RELOADED_FILE,
    doc: "PEM file with the Ed25519 private key that signs this cluster's summaries. Only nodes with this file export summaries. The file is reread on SIGHUP.",
  }),
  requireSignatures: bool({
    default: true,
    doc: "Accept only summaries that are signed by a key of their cluster (summary.keys, fabric.borders[].keys). When off, unsigned summaries are also accepted from clusters that are listed in fabric.borders and have no key in either place; every neighbour and every node of the region can then forge such summaries.",
  }),
  resolverScopes: list({
    pattern: /^(?:zone|region|global)$/,
    what: "zone, region or global",
    maxItems: 3,
    default: [],
    doc: "Channels whose summaries a resolver follows on its upstreams, to answer SummaryQuery and SummaryWatch and to give redirects. Empty means none. Only for a resolver.",
  }),
  resolverNamespaces: list({
    ...NAMESPACE_PREFIX,
    maxItems: 1000,
    default: [],
    doc: "Namespaces, including those below them, whose summaries a resolver follows. When empty, resolver.namespaces is used, or all namespaces if that is empty too. Only for a resolver.",
  }),
  keys: rows({
    doc: "Public keys of other clusters, and of this cluster for nodes that do not sign, each with the cluster's region. New regions are accepted only from these settings, not from a cluster's own messages. Keys of a neighbour can be listed in fabric.borders[].keys instead; the keys from both settings are used.",
    fields: {
      clusterId: text({ ...ID, default: "", doc: "Id of the cluster that signs with this key." }),
      region: text({ ...ID, default: "", doc: "Region of the cluster." }),
      publicKey: text({
        ...PUBLIC_KEY,
        default: "",
        doc: "Ed25519 public key: 32 bytes in base64.",
      }),
    },
    required: ["clusterId", "region", "publicKey"],
  }),
} as const;
