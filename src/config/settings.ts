/**
 * The SETTINGS table: every setting with its default, bounds, unit and meaning. Defaults are defined only here; state machines get complete
 * options. The rows of the groups dns, fabric, resolver, summary, tenants, limits and quotas are in `dns.ts`, `fabric.ts`, `resolver.ts`,
 * `summary.ts`, `tenants.ts` and `limits.ts`. To add a setting, add a row and read it (`settings.<group>.<name>`). `load.ts` reads values from
 * files, environment and flags.
 */
import { GRPC_PORT } from "../lib/addresses.ts";
import { LABEL_KEY, NODE_BOUNDS, NODE_HOST } from "../lib/bounds.ts";
import { DAY_MS, HOUR_MS } from "../lib/duration.ts";
import { DNS_RATE_BEYOND_LOOPBACK, DNS_SETTINGS } from "./dns.ts";
import { FABRIC_SETTINGS } from "./fabric.ts";
import { bool, bytes, choice, HOST, ID, int, list, ms, NAME, PATH, pairs, port, type SettingField, text } from "./field.ts";
import { fileKey, type ValueOf } from "./field-table.ts";
import { LIMIT_SETTINGS, QUOTA_SETTINGS } from "./limits.ts";
import { AT_RESOLVER, RESOLVER_SETTINGS } from "./resolver.ts";
import { SUMMARY_SETTINGS } from "./summary.ts";
import { TENANT_SETTINGS } from "./tenants.ts";

const CHECK_SETTINGS = {
  enabled: bool({
    notForResolver: `${AT_RESOLVER.records}, and so checks none`,
    default: false,
    doc: "Run the checks of entries that are registered here. While it is false, a registration with checks is refused, so that no entry with checks goes unwatched.",
  }),
  allowed: list({
    pattern: /^[0-9a-fA-F:.]{2,45}(?:\/\d{1,3})?$/,
    what: "an address or a block such as 10.0.0.0/8",
    maxItems: 256,
    default: [],
    doc: "Addresses, and blocks of addresses, that checks may connect to; none when empty. Loopback addresses, IPv4 link-local addresses, addresses of cloud metadata services, and IPv6 forms of IPv4 addresses are allowed only by a block that lies completely within their range: 0.0.0.0/0 does not allow them. Addresses that no client can connect to, such as multicast and unspecified addresses, are never allowed.",
  }),
} as const;

/** Access to data that belongs to no namespace, so that no policy covers it. */
const ENDPOINT_ACCESS = ["on", "authenticated", "off"] as const;

/**
 * One row per setting. The name in code carries its unit (`minTtlMs`). The key in files does not (`dns.min_ttl`, written `1s`); otherwise
 * it is the name in snake_case.
 */
const SETTINGS = {
  node: {
    mode: choice({
      choices: ["node", "resolver"],
      default: "node",
      flag: "--mode <mode>",
      doc: "What is started: a node of the cluster; or a resolver, a cache that reads the servers of resolver.upstreams and answers in their place.",
    }),
    id: text({
      ...ID,
      flag: "--node-id <id>",
      doc: "Id of this node. When absent, a random id is made and kept in the data directory.",
    }),
    name: text({
      notForResolver: AT_RESOLVER.entry,
      pattern: /^.{1,128}$/,
      what: "1 to 128 characters",
      doc: "Name for people: in the NODE entry of ClusterMap, as the metadata `waymark.node.name`.",
    }),
    clusterId: text({ ...ID, default: "local", flag: "--cluster-id <id>", doc: "Cluster this node belongs to." }),
    region: text({ ...ID, default: "local", flag: "--region <name>", doc: "Region of this node." }),
    zone: text({
      ...ID,
      default: "local",
      flag: "--zone <name>",
      doc: "Zone of this node inside the region. Entries that name no zone get it.",
    }),
    resources: list({
      notForResolver: AT_RESOLVER.entry,
      ...NAME,
      // The node's own entry contains them, within the default limit of an entry's lists.
      maxItems: LIMIT_SETTINGS.maxListItems.default,
      default: [],
      doc: `What this node has, for example gpu; at most ${LIMIT_SETTINGS.maxListItems.default}. ClusterMap filters by them.`,
    }),
    roles: list({
      notForResolver: AT_RESOLVER.entry,
      ...ID,
      maxItems: NODE_BOUNDS.maxRoles,
      default: [],
      doc: `Roles this node announces; at most ${NODE_BOUNDS.maxRoles}.`,
    }),
    labels: pairs({
      notForResolver: AT_RESOLVER.entry,
      maxItems: NODE_BOUNDS.maxLabels,
      name: LABEL_KEY,
      nameWhat: `1 to ${NODE_BOUNDS.maxLabelKeyLength} of A-Z a-z 0-9 . _ : / @ + -`,
      maxValueLength: NODE_BOUNDS.maxLabelValueLength,
      default: {},
      doc: `Free labels this node announces; at most ${NODE_BOUNDS.maxLabels}, with values of at most ${NODE_BOUNDS.maxLabelValueLength} characters, and ${NODE_BOUNDS.maxFactsBytes / 1024} KiB together with the roles.`,
    }),
    workers: int({
      notForResolver: "a resolver has no read workers: start several resolvers instead",
      default: 0,
      min: 0,
      max: 64,
      flag: "--workers <n>",
      doc: "Read workers: threads that share the ports of gRPC, HTTP and DNS. Each answers readers from a copy of the catalog in its own memory, and writes go through the main thread. 0: the main thread answers everything itself.",
    }),
    stopTimeoutMs: ms({ default: 10_000, min: 0, max: 600_000, doc: "How long a stop waits for open calls." }),
  },
  listen: {
    host: text({ ...HOST, default: "127.0.0.1", flag: "--host <host>", doc: "Address the listeners bind to." }),
    advertiseHost: text({
      pattern: NODE_HOST,
      what: "a host name, an IPv4 address or an IPv6 address",
      flag: "--advertise-host <host>",
      doc: "Host that others are told to connect to. When absent, the address that the listeners bind to; if they bind to all addresses, the first that is not loopback.",
    }),
    grpcPort: port({ default: GRPC_PORT, flag: "--grpc-port <port>", doc: "Port of the gRPC listener; 0 means any free port." }),
    httpPort: port({ default: 17_480, flag: "--http-port <port>", doc: "Port of the HTTP edge; 0 means any free port." }),
    allowedHosts: list({
      pattern: NODE_HOST,
      what: "a host name, an IPv4 address or an IPv6 address",
      itemKey: (host) => host.toLowerCase().replace(/\.$/, ""),
      default: [],
      doc: "Names that requests to a plain HTTP edge may give as `Host`, beside loopback names and addresses of this node. Without this list a web page could make any other name lead to this node (DNS rebinding). Every name is accepted with TLS, and with tenants.anonymous = none unless tenants.trusted_header is set.",
    }),
    corsOrigins: list({
      pattern: /^https?:\/\/[A-Za-z0-9.[\]:-]{1,253}$/,
      what: "an origin as browsers write it: https://ui.example",
      itemKey: (origin) => (URL.canParse(origin) ? new URL(origin).origin : origin),
      default: [],
      doc: "Origins whose web pages may read from the HTTP edge and write to it. Writes from pages of other origins are refused.",
    }),
    insecure: bool({
      default: false,
      flag: "--insecure",
      doc: "Listen on addresses beyond loopback although neither TLS nor a credential is configured. Everybody who reaches the node may then do what tenants.anonymous says.",
    }),
  },
  server: {
    maxConnections: int({ default: 20_000, min: 1, max: 1_000_000, doc: "Most open connections of a listener." }),
    maxStreamsPerConnection: int({
      default: 1_000,
      min: 1,
      max: 1_000_000,
      doc: "Maximum number of open streams on one gRPC connection.",
    }),
    maxStreams: int({ default: 50_000, min: 1, max: 10_000_000, doc: "Most open streams of all gRPC connections together." }),
    maxPeerWatches: int({
      default: 100,
      min: 1,
      max: 10_000,
      doc: "Most open streams of PeerService.Watch, by all callers together. Each keeps a set of the members that its reader holds.",
    }),
    keepaliveTimeMs: ms({
      default: 30_000,
      min: 1000,
      max: HOUR_MS,
      doc: "Silence after which a gRPC connection, or one over HTTP/2 at the HTTP edge, is pinged.",
    }),
    keepaliveTimeoutMs: ms({ default: 10_000, min: 100, max: HOUR_MS, doc: "Time that a pinged connection has to answer." }),
    maxConnectionAgeMs: ms({
      default: 0,
      min: 0,
      max: DAY_MS,
      doc: "Age, give or take 10 %, at which a gRPC connection is told to go away; 0 means never.",
    }),
    maxConnectionAgeGraceMs: ms({
      default: 60_000,
      min: 0,
      max: HOUR_MS,
      doc: "Time that the open calls of a connection have after it was told to go away.",
    }),
    reflection: choice({
      choices: ENDPOINT_ACCESS,
      default: "on",
      doc: "Who may read the protos by gRPC reflection; off means that it is not served.",
    }),
  },
  tls: {
    certFile: text({
      ...PATH,
      doc: "PEM file with the certificate chain of the listeners for gRPC, HTTP and DNS over TLS; plain text when absent.",
    }),
    keyFile: text({ ...PATH, doc: "PEM file with the private key of tls.cert_file." }),
    caFile: text({ ...PATH, doc: "PEM file with the authorities that client certificates must come from." }),
    requireClientCert: bool({ default: false, doc: "Refuse clients without a certificate from tls.ca_file." }),
  },
  summary: SUMMARY_SETTINGS,
  tenants: TENANT_SETTINGS,
  persistence: {
    dataDir: text({ ...PATH, default: "./waymark-data", flag: "--data-dir <dir>", doc: "Directory for the journal and the node id." }),
    newGeneration: bool({
      notForResolver: `${AT_RESOLVER.records}, and so has no generations`,
      default: false,
      flag: "--new-generation",
      doc: "Start as a new origin with what the data directory holds. Use it after a backup was restored, or when the node refused the directory because its log is missing.",
    }),
    ephemeral: bool({ default: false, flag: "--ephemeral", doc: "Keep nothing on disk. Every start is a new generation." }),
  },
  catalog: {
    defaultLeaseTtlMs: ms({ default: 30_000, min: 1000, max: DAY_MS, doc: "Ttl of a lease whose client asks for none." }),
    minLeaseTtlMs: ms({ default: 1000, min: 100, max: HOUR_MS, doc: "Shortest ttl of a lease." }),
    maxLeaseTtlMs: ms({ default: DAY_MS, min: 1000, max: DAY_MS, doc: "Longest ttl of a lease." }),
    loadIntervalMs: ms({ default: 30_000, min: 0, max: HOUR_MS, doc: "Least time between two replicated load changes of one entry." }),
    maxIdempotencyKeys: int({
      default: 100_000,
      min: 100,
      max: 10_000_000,
      doc: "Registrations remembered so that a retry gets the same answer.",
    }),
    tombstoneTtlMs: ms({ default: HOUR_MS, min: 1000, max: DAY_MS, doc: "How long removals are remembered for readers that are behind." }),
    minTombstones: int({ default: 100_000, min: 100, max: 10_000_000, doc: "Removals remembered however few entries there are." }),
  },
  limits: LIMIT_SETTINGS,
  quotas: QUOTA_SETTINGS,
  dns: DNS_SETTINGS,
  fabric: FABRIC_SETTINGS,
  checks: CHECK_SETTINGS,
  resolver: RESOLVER_SETTINGS,
  policy: {
    acceptFrom: list({
      notForResolver: AT_RESOLVER.policy,
      ...ID,
      maxItems: NODE_BOUNDS.maxPolicyFrom,
      default: [],
      doc: `Clusters beside this node's own whose policy is put in force here, and the policies that those took from others; up to ${NODE_BOUNDS.maxPolicyFrom}.`,
    }),
    file: text({
      notForResolver: AT_RESOLVER.policy,
      ...PATH,
      flag: "--policy <file>",
      doc: "Policy file (YAML or JSON). It is applied at start and on SIGHUP if it differs from the last time it was read.",
    }),
  },
  audit: {
    retentionMs: ms({ default: 90 * DAY_MS, min: HOUR_MS, max: 3650 * DAY_MS, doc: "How long audit records are kept." }),
    maxBytes: bytes({
      default: 268_435_456,
      min: 1_048_576,
      max: 1_099_511_627_776,
      doc: "Size of the audit log above which the oldest records go, whatever their age.",
    }),
    file: text({
      ...PATH,
      doc: "File to which each audit record is appended as a line of JSON. It is opened again on SIGHUP.",
    }),
    sampleReads: int({
      default: 0,
      min: 0,
      max: 1_000_000_000,
      doc: "One in this many allowed reads leaves an audit record; 0 means none. Denials, writes and acts of operators always leave one.",
    }),
  },
  observability: {
    logLevel: choice({
      choices: ["trace", "debug", "info", "warn", "error", "silent"],
      default: "info",
      flag: "--log-level <level>",
      doc: "Least severity that is logged.",
    }),
    logScopes: list({
      pattern: /^[a-z][a-z0-9.-]{0,63}(?:=(?:trace|debug|info|warn|error|silent))?$/,
      what: "component or component=level",
      itemKey: (scope) => scope.replace(/=.*/, ""),
      default: [],
      flag: "--log-scopes <scopes>",
      doc: "Components with a level of their own, such as dns=debug,server.grpc=trace. A component without a level has debug.",
    }),
    logFormat: choice({ choices: ["json", "text"], default: "json", doc: "One JSON object a line, or text for people." }),
    metricsAccess: choice({
      choices: ENDPOINT_ACCESS,
      default: "on",
      doc: "Who may read /metrics, /metrics/persistence and /sd/prometheus; off means that they are not served.",
    }),
  },
} as const satisfies Record<string, Record<string, SettingField<unknown>>>;

type SettingFields = typeof SETTINGS;

/** Effective settings, by group and name in code: `settings.listen.grpcPort`. */
export type Settings = { readonly [G in keyof SettingFields]: { readonly [N in keyof SettingFields[G]]: ValueOf<SettingFields[G][N]> } };

export interface SettingRow {
  readonly group: string;
  /** Name in code, `minTtlMs`. */
  readonly name: string;
  /** Key in files, `dns.min_ttl`. */
  readonly path: string;
  /** `WAYMARK_DNS__MIN_TTL`. */
  readonly env: string;
  readonly setting: SettingField<unknown>;
}

/** All settings, in the order of the table. */
export const SETTING_ROWS: readonly SettingRow[] = Object.entries<Readonly<Record<string, SettingField<unknown>>>>(SETTINGS).flatMap(
  ([group, fields]) =>
    Object.entries(fields).map(([name, setting]) => {
      const key = fileKey(name, setting.suffix);
      return { group, name, path: `${group}.${key}`, env: `WAYMARK_${group}__${key}`.toUpperCase(), setting };
    }),
);

/** Makes settings with a value for each row: one that the row's `parse` returned, or the row's default. */
export function settingsOf(valueOf: (row: SettingRow) => unknown): Settings {
  const groups: Record<string, Record<string, unknown>> = {};
  for (const row of SETTING_ROWS) (groups[row.group] ??= {})[row.name] = valueOf(row);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the one place where the table becomes the type
  return groups as unknown as Settings;
}

/** Returns the value of a row. */
export function valueOfRow(settings: Settings, { group, name }: SettingRow): unknown {
  const groups: Readonly<Record<string, Readonly<Record<string, unknown>>>> = settings;
  return groups[group]?.[name];
}

/** The effective `dns.rate`: complete responses per second over UDP to one network. 0: no limit. */
export function dnsRate(rate: Settings["dns"]["rate"], isLoopback: boolean): number {
  return rate ?? (isLoopback ? 0 : DNS_RATE_BEYOND_LOOPBACK);
}
