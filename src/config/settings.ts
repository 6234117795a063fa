/**
 * The SETTINGS table, which contains every setting with its default, bounds, unit and meaning. Defaults are defined only here, and other code
 * receives complete options. The groups dns, fabric, identity, resolver, summary, store, leadership, shards, tenants, limits and quotas have their own files. To add a setting, add a row
 * and read it (`settings.<group>.<name>`). `load.ts` reads the values from files, the environment and flags.
 */
import { GRPC_PORT } from "../lib/addresses.ts";
import { LABEL_KEY, NODE_BOUNDS, NODE_HOST } from "../lib/bounds.ts";
import { DAY_MS, HOUR_MS } from "../lib/duration.ts";
import { DNS_RATE_BEYOND_LOOPBACK, DNS_SETTINGS } from "./dns.ts";
import { FABRIC_SETTINGS } from "./fabric.ts";
import { bool, bytes, choice, HOST, ID, int, list, ms, NAME, PATH, pairs, port, RELOADED_FILE, type SettingField, text } from "./field.ts";
import { fileKey, type ValueOf } from "./field-table.ts";
import { IDENTITY_SETTINGS } from "./identity.ts";
import { LIMIT_SETTINGS, QUOTA_SETTINGS } from "./limits.ts";
import { AT_RESOLVER, RESOLVER_SETTINGS } from "./resolver.ts";
import { LEADERSHIP_SETTINGS, SHARD_SETTINGS, STORE_SETTINGS } from "./store.ts";
import { SUMMARY_SETTINGS } from "./summary.ts";
import { TENANT_SETTINGS } from "./tenants.ts";

const CHECK_SETTINGS = {
  enabled: bool({
    notForResolver: `${AT_RESOLVER.records} and does not run checks`,
    default: false,
    doc: "Run the checks of entries that are registered on this node. When false, registrations that contain checks are refused, so that no check is accepted and then ignored.",
  }),
  allowed: list({
    pattern: /^[0-9a-fA-F:.]{2,45}(?:\/\d{1,3})?$/,
    what: "an address or a block such as 10.0.0.0/8",
    maxItems: 256,
    default: [],
    doc: "Addresses and CIDR blocks that checks may connect to; empty means none. Loopback, IPv4 link-local, cloud metadata and IPv4-in-IPv6 addresses are allowed only by a block that lies completely within their range, so 0.0.0.0/0 does not allow them. Addresses that cannot be connected to, such as multicast and unspecified addresses, are never allowed.",
  }),
} as const;

/** Access to endpoints that are not covered by policy, because they do not belong to a namespace. */
const ENDPOINT_ACCESS = ["on", "authenticated", "off"] as const;

/**
 * One row for each setting. A name in code ends with its unit (`minTtlMs`). The key in files is the rest of the name in snake_case (`dns.min_ttl`,
 * with a value such as `1s`).
 */
const SETTINGS = {
  node: {
    mode: choice({
      choices: ["node", "resolver"],
      default: "node",
      flag: "--mode <mode>",
      doc: "Kind of process to start: a node of the cluster, or a resolver, which caches the data of resolver.upstreams and answers lookups from its cache.",
    }),
    id: text({
      ...ID,
      perNode: true,
      flag: "--node-id <id>",
      doc: "Id of this node. When absent, a random id is generated and kept in the data directory.",
    }),
    name: text({
      notForResolver: AT_RESOLVER.entry,
      perNode: true,
      pattern: /^.{1,128}$/,
      what: "1 to 128 characters",
      doc: "Human-readable name of this node, published in its NODE entry (ClusterMap) as the metadata `waymark.node.name`.",
    }),
    clusterId: text({
      ...ID,
      default: "local",
      flag: "--cluster-id <id>",
      doc: "Id of the cluster that this node belongs to. All nodes of a cluster must have the same value.",
    }),
    region: text({ ...ID, default: "local", flag: "--region <name>", doc: "Region of this node." }),
    zone: text({
      ...ID,
      perNode: true,
      default: "local",
      flag: "--zone <name>",
      doc: "Zone of this node within its region. Entries registered on this node without a zone get this zone.",
    }),
    resources: list({
      notForResolver: AT_RESOLVER.entry,
      perNode: true,
      ...NAME,
      // The node's own entry lists these values, and its lists have the default limit.
      maxItems: LIMIT_SETTINGS.maxListItems.default,
      default: [],
      doc: `Resources of this node, such as gpu; at most ${LIMIT_SETTINGS.maxListItems.default}. ClusterMap can filter nodes by resource.`,
    }),
    roles: list({
      notForResolver: AT_RESOLVER.entry,
      perNode: true,
      ...ID,
      maxItems: NODE_BOUNDS.maxRoles,
      default: [],
      doc: `Roles that this node announces; at most ${NODE_BOUNDS.maxRoles}.`,
    }),
    labels: pairs({
      notForResolver: AT_RESOLVER.entry,
      perNode: true,
      maxItems: NODE_BOUNDS.maxLabels,
      name: LABEL_KEY,
      nameWhat: `1 to ${NODE_BOUNDS.maxLabelKeyLength} of A-Z a-z 0-9 . _ : / @ + -`,
      maxValueLength: NODE_BOUNDS.maxLabelValueLength,
      default: {},
      doc: `Labels that this node announces; at most ${NODE_BOUNDS.maxLabels}, each value at most ${NODE_BOUNDS.maxLabelValueLength} characters, and at most ${NODE_BOUNDS.maxFactsBytes / 1024} KiB for labels and roles together.`,
    }),
    workers: int({
      notForResolver: "a resolver has no read workers: start several resolvers instead",
      perNode: true,
      default: 0,
      min: 0,
      max: 64,
      flag: "--workers <n>",
      doc: "Number of read workers: threads that share the gRPC, HTTP and DNS ports. Each worker answers reads from its own copy of the catalog and forwards writes to the main thread. 0 means that the main thread answers everything. Use workers if one core cannot handle the reads.",
    }),
    stopTimeoutMs: ms({ default: 10_000, min: 0, max: 600_000, doc: "How long a stopping node waits for open calls to finish." }),
  },
  listen: {
    host: text({ ...HOST, default: "127.0.0.1", flag: "--host <host>", doc: "Address that the listeners bind to." }),
    advertiseHost: text({
      perNode: true,
      pattern: NODE_HOST,
      what: "a host name, an IPv4 address or an IPv6 address",
      flag: "--advertise-host <host>",
      doc: "Host that this node advertises to clients and other nodes. Defaults to the address that the listeners bind to or, if they bind to all addresses, to the first address that is not loopback.",
    }),
    grpcPort: port({ default: GRPC_PORT, flag: "--grpc-port <port>", doc: "Port of the gRPC listener; 0 means any free port." }),
    httpPort: port({ default: 17_480, flag: "--http-port <port>", doc: "Port of the HTTP edge; 0 means any free port." }),
    allowedHosts: list({
      pattern: NODE_HOST,
      what: "a host name, an IPv4 address or an IPv6 address",
      itemKey: (host) => host.toLowerCase().replace(/\.$/, ""),
      default: [],
      doc: "Names accepted in the `Host` header of plain HTTP requests, in addition to loopback names and this node's addresses. The check protects against DNS rebinding, where a web page points its own name at this node. The check is off if TLS is configured. The check is also off if tenants.anonymous is none, unless tenants.trusted_header is set.",
    }),
    corsOrigins: list({
      pattern: /^https?:\/\/[A-Za-z0-9.[\]:-]{1,253}$/,
      what: "an origin as browsers write it: https://ui.example",
      itemKey: (origin) => (URL.canParse(origin) ? new URL(origin).origin : origin),
      default: [],
      doc: "Origins whose web pages may read from and write to the HTTP edge. Writes from pages of other origins are refused.",
    }),
    insecure: bool({
      default: false,
      flag: "--insecure",
      doc: "Listen on addresses other than loopback even if neither TLS nor a credential is configured. Every client that can reach the node then has the access that tenants.anonymous grants.",
    }),
  },
  server: {
    maxConnections: int({ default: 20_000, min: 1, max: 1_000_000, doc: "Maximum number of open connections per listener." }),
    maxStreamsPerConnection: int({
      default: 1_000,
      min: 1,
      max: 1_000_000,
      doc: "Maximum number of open streams on one gRPC connection.",
    }),
    maxStreams: int({
      default: 50_000,
      min: 1,
      max: 10_000_000,
      doc: "Maximum number of open streams on all gRPC connections together. Each open watch is a stream.",
    }),
    maxPeerWatches: int({
      default: 1000,
      min: 1,
      max: 10_000,
      doc: "Maximum number of open PeerService.Watch streams of all callers together, and of open LeadershipService.Subscribe streams. One caller can have at most half of them, and fewer while other callers have some. Each watch keeps a set of the members that its client has received.",
    }),
    keepaliveTimeMs: ms({
      default: 30_000,
      min: 1000,
      max: HOUR_MS,
      doc: "Idle time after which the server pings a gRPC connection, or an HTTP/2 connection at the HTTP edge. Lower it if a firewall drops idle connections sooner.",
    }),
    keepaliveTimeoutMs: ms({
      default: 10_000,
      min: 100,
      max: HOUR_MS,
      doc: "How long a client has to answer a keepalive ping before its connection is closed.",
    }),
    maxConnectionAgeMs: ms({
      default: 0,
      min: 0,
      max: DAY_MS,
      doc: "Age, ±10 %, at which the server asks a gRPC client to reconnect (GOAWAY); 0 means never. Set it to rebalance long-lived connections after nodes have been added.",
    }),
    maxConnectionAgeGraceMs: ms({
      default: 60_000,
      min: 0,
      max: HOUR_MS,
      doc: "How long open calls have to finish after the GOAWAY that server.max_connection_age triggers.",
    }),
    reflection: choice({
      choices: ENDPOINT_ACCESS,
      default: "on",
      doc: "Access to the protos through gRPC reflection, and to /openapi.json. on: all callers. authenticated: callers with a credential. off: no callers; neither is served.",
    }),
  },
  tls: {
    source: choice({
      notForResolver: AT_RESOLVER.fabric,
      choices: ["files", "identity"],
      default: "files",
      doc: "Where the certificate of the gRPC, HTTP and DNS-over-TLS listeners comes from. files: tls.cert_file, if it is set. identity: the certificate that an issuer of the cluster made for this node (identity.source). Client certificates are then verified against the roots of the cluster.",
    }),
    minVersion: choice({
      choices: ["1.2", "1.3"],
      default: "1.3",
      doc: "Oldest version of TLS that the gRPC, HTTP and DNS-over-TLS listeners accept. Set 1.2 only if a client cannot use 1.3.",
    }),
    certFile: text({
      ...RELOADED_FILE,
      doc: "PEM file with the certificate chain for the gRPC, HTTP and DNS-over-TLS listeners. When absent, gRPC and HTTP use plaintext.",
    }),
    keyFile: text({ ...RELOADED_FILE, doc: "PEM file with the private key of tls.cert_file." }),
    caFile: text({ ...RELOADED_FILE, doc: "PEM file with the CAs that issue client certificates." }),
    crlFile: text({
      ...RELOADED_FILE,
      doc: "PEM file with the certificate revocation lists of all CAs in tls.ca_file and of their intermediates. Client certificates are refused if they are in a list, or if the list of their CA is missing or has expired.",
    }),
    requireClientCert: bool({ default: false, doc: "Refuse clients that have no certificate issued by a CA of tls.ca_file." }),
  },
  summary: SUMMARY_SETTINGS,
  tenants: TENANT_SETTINGS,
  persistence: {
    dataDir: text({
      ...PATH,
      default: "./waymark-data",
      flag: "--data-dir <dir>",
      doc: "Directory for the data of this process: journal, policy, audit log, snapshots and node id.",
    }),
    newGeneration: bool({
      notForResolver: `${AT_RESOLVER.records} and has no generations`,
      perNode: true,
      default: false,
      flag: "--new-generation",
      doc: "Start a new generation with the contents of the data directory. Use it after restoring a backup, or when the node refuses the directory because its log is missing.",
    }),
    ephemeral: bool({ default: false, flag: "--ephemeral", doc: "Do not store any data on disk. Every start is a new generation." }),
  },
  catalog: {
    defaultLeaseTtlMs: ms({ default: 30_000, min: 1000, max: DAY_MS, doc: "TTL of a lease if the client does not request one." }),
    minLeaseTtlMs: ms({ default: 1000, min: 100, max: HOUR_MS, doc: "Shortest allowed TTL of a lease." }),
    maxLeaseTtlMs: ms({ default: DAY_MS, min: 1000, max: DAY_MS, doc: "Longest allowed TTL of a lease." }),
    loadIntervalMs: ms({ default: 30_000, min: 0, max: HOUR_MS, doc: "Minimum time between two replicated load updates of one entry." }),
    maxIdempotencyKeys: int({
      default: 100_000,
      min: 100,
      max: 10_000_000,
      doc: "Number of registrations that are stored with their idempotency keys, so that a retry returns the same answer.",
    }),
    tombstoneTtlMs: ms({
      default: HOUR_MS,
      min: 1000,
      max: DAY_MS,
      doc: "How long tombstones of removed entries are kept for watches and peers that have to catch up.",
    }),
    minTombstones: int({
      default: 100_000,
      min: 100,
      max: 10_000_000,
      doc: "Number of tombstones that are always kept for catalog.tombstone_ttl. If tombstones outnumber both this value and the live entries, the oldest are removed early.",
    }),
  },
  limits: LIMIT_SETTINGS,
  quotas: QUOTA_SETTINGS,
  dns: DNS_SETTINGS,
  fabric: FABRIC_SETTINGS,
  identity: IDENTITY_SETTINGS,
  checks: CHECK_SETTINGS,
  resolver: RESOLVER_SETTINGS,
  store: STORE_SETTINGS,
  leadership: LEADERSHIP_SETTINGS,
  shards: SHARD_SETTINGS,
  policy: {
    acceptFrom: list({
      notForResolver: AT_RESOLVER.policy,
      ...ID,
      maxItems: NODE_BOUNDS.maxPolicyFrom,
      default: [],
      doc: `Other clusters whose policy is applied on this node, including policies that those clusters accepted from others; at most ${NODE_BOUNDS.maxPolicyFrom}.`,
    }),
    file: text({
      notForResolver: AT_RESOLVER.policy,
      ...RELOADED_FILE,
      flag: "--policy <file>",
      doc: "Policy file (YAML or JSON). The file is applied at startup and on SIGHUP if it has changed since it was last read.",
    }),
  },
  audit: {
    retentionMs: ms({ default: 90 * DAY_MS, min: HOUR_MS, max: 3650 * DAY_MS, doc: "How long audit records are kept." }),
    maxBytes: bytes({
      default: 268_435_456,
      min: 1_048_576,
      max: 1_099_511_627_776,
      doc: "Maximum size of the audit log. Above this limit, the oldest records are deleted regardless of their age.",
    }),
    file: text({
      ...RELOADED_FILE,
      doc: "File to which each audit record is appended as a line of JSON. The file is reopened on SIGHUP.",
    }),
    sampleReads: int({
      default: 0,
      min: 0,
      max: 1_000_000_000,
      doc: "Sampling of allowed reads in the audit log: one in this many reads is recorded; 0 means none. Denials, writes and operator actions are always recorded.",
    }),
  },
  observability: {
    logLevel: choice({
      choices: ["trace", "debug", "info", "warn", "error", "silent"],
      default: "info",
      flag: "--log-level <level>",
      doc: "Lowest severity that is logged.",
    }),
    logScopes: list({
      pattern: /^[a-z][a-z0-9.-]{0,63}(?:=(?:trace|debug|info|warn|error|silent))?$/,
      what: "component or component=level",
      itemKey: (scope) => scope.replace(/=.*/, ""),
      default: [],
      flag: "--log-scopes <scopes>",
      doc: "Components with their own log level, such as dns=debug,server.grpc=trace. A component listed without a level has the level debug.",
    }),
    logFormat: choice({ choices: ["json", "text"], default: "json", doc: "Log format: one JSON object per line, or human-readable text." }),
    metricsAccess: choice({
      choices: ENDPOINT_ACCESS,
      default: "on",
      doc: "Access to /metrics, /metrics/persistence and /sd/prometheus. on: all callers. authenticated: callers with a credential. off: no callers; the paths are not served.",
    }),
  },
} as const satisfies Record<string, Record<string, SettingField<unknown>>>;

type SettingFields = typeof SETTINGS;

/** Effective settings, by group and name in code: `settings.listen.grpcPort`. */
export type Settings = { readonly [G in keyof SettingFields]: { readonly [N in keyof SettingFields[G]]: ValueOf<SettingFields[G][N]> } };

export interface SettingRow {
  readonly group: string;
  /** Name in code, for example `minTtlMs`. */
  readonly name: string;
  /** Key in files, for example `dns.min_ttl`. */
  readonly path: string;
  /** `WAYMARK_DNS__MIN_TTL`. */
  readonly env: string;
  readonly setting: SettingField<unknown>;
}

/** Every setting, in the table's order. */
export const SETTING_ROWS: readonly SettingRow[] = Object.entries<Readonly<Record<string, SettingField<unknown>>>>(SETTINGS).flatMap(
  ([group, fields]) =>
    Object.entries(fields).map(([name, setting]) => {
      const key = fileKey(name, setting.suffix);
      return { group, name, path: `${group}.${key}`, env: `WAYMARK_${group}__${key}`.toUpperCase(), setting };
    }),
);

/** The settings with one value per row: either the value that the row's `parse` returned, or the row's default. */
export function settingsOf(valueOf: (row: SettingRow) => unknown): Settings {
  const groups: Record<string, Record<string, unknown>> = {};
  for (const row of SETTING_ROWS) (groups[row.group] ??= {})[row.name] = valueOf(row);
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the one place where the table becomes the type
  return groups as unknown as Settings;
}

/** The value of a row. */
export function valueOfRow(settings: Settings, { group, name }: SettingRow): unknown {
  const groups: Readonly<Record<string, Readonly<Record<string, unknown>>>> = settings;
  return groups[group]?.[name];
}

/** The effective `dns.rate`: complete UDP answers per second to one network. 0 means no limit. */
export function dnsRate(rate: Settings["dns"]["rate"], isLoopback: boolean): number {
  return rate ?? (isLoopback ? 0 : DNS_RATE_BEYOND_LOOPBACK);
}
