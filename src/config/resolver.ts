/** Settings for a resolver: the group `resolver` of SETTINGS in `settings.ts`. */
import { HOUR_MS, MINUTE_MS } from "../lib/duration.ts";
import { ADDRESS, bool, bytes, int, LABEL, list, ms, RELOADED_FILE, text } from "./field.ts";

/** The item in `resolver.namespaces` that means the whole catalog. */
export const EVERYTHING = "*";

/** Values of `notForResolver`. */
export const AT_RESOLVER = {
  entry: "a resolver has no NODE entry",
  fabric: "a resolver has no fabric links; it reads from resolver.upstreams",
  policy: "a resolver uses the policy of its upstreams",
  records: "a resolver has no entries of its own",
} as const;

/** A value above one hour would be too long for a catalog that changes. */
const TTL = { min: 1000, max: HOUR_MS } as const;
/** Minimum memory per entry of resolver.max_entries, in bytes. The counters of requests per name use up to half of this amount. */
export const LEAST_ENTRY_BYTES = 64;

export const RESOLVER_SETTINGS = {
  upstreams: list({
    perNode: true,
    pattern: ADDRESS,
    what: 'an address such as "10.0.0.1:17420" or "[fd00::1]:17420"',
    maxItems: 64,
    default: [],
    flag: "--upstream <addresses>",
    doc: "gRPC addresses (host:port) of the servers that a resolver reads from: nodes or other resolvers in its own cluster and region. A resolver reads from the fastest server. A resolver needs at least one server.",
  }),
  namespaces: list({
    pattern: new RegExp(`^(?:\\${EVERYTHING}|(?=.{1,200}$)${LABEL}(?:\\.${LABEL})*)$`),
    what: `a namespace, or ${EVERYTHING} for all`,
    maxItems: 1024,
    default: [],
    flag: "--namespaces <namespaces>",
    doc: `Namespaces that a resolver follows from startup, each with all namespaces below it; ${EVERYTHING} is the whole catalog. At most resolver.max_watches.`,
  }),
  // An upstream accepts at most 1024 prefixes in one watch.
  maxWatches: int({
    default: 256,
    min: 1,
    max: 1024,
    doc: "Maximum number of namespaces that a resolver follows: resolver.namespaces, namespaces that its callers watch, and namespaces that are queried often. The watches of one caller (tenant, or else principal, or else address) can use at most a quarter of this number.",
  }),
  ttlZoneMs: ms({ ...TTL, default: 15_000, doc: "How long a fetched answer stays fresh if one of its entries has the scope ZONE." }),
  ttlRegionMs: ms({
    ...TTL,
    default: 30_000,
    doc: "How long a fetched answer stays fresh if the narrowest scope of its entries is REGION; at least resolver.ttl_zone.",
  }),
  ttlGlobalMs: ms({
    ...TTL,
    default: MINUTE_MS,
    doc: "How long a fetched answer stays fresh if all of its entries have the scope GLOBAL; at least resolver.ttl_region.",
  }),
  negativeTtlMs: ms({
    default: 15_000,
    min: 10_000,
    max: 30_000,
    doc: "How long a resolver caches a negative answer (the fetched name does not exist).",
  }),
  maxStaleMs: ms({
    default: HOUR_MS,
    min: 0,
    max: 30 * 24 * HOUR_MS,
    doc: "How long fetched answers are still served, marked as stale, while no upstream responds; 0 means no limit. Followed namespaces are served without a time limit.",
  }),
  guardHoldMs: ms({
    default: 5 * MINUTE_MS,
    min: 1000,
    max: 24 * HOUR_MS,
    doc: "If more than half of a name's entries expire at the same time, lookups still return them for this long, ranked last.",
  }),
  maxEntries: int({
    default: 1_000_000,
    min: 1000,
    max: 100_000_000,
    doc: "Maximum number of followed and fetched entries in the cache. With the default, resolver.max_bytes is the effective limit, at about 1 KiB per entry.",
  }),
  maxBytes: bytes({
    default: 1_073_741_824,
    min: 1_048_576,
    max: 1_099_511_627_776,
    doc: `Memory limit for followed and fetched entries and their bookkeeping; at least ${LEAST_ENTRY_BYTES} bytes per entry of resolver.max_entries. In namespaces that are neither configured nor watched, the least requested names are removed first. If that is not enough, the newest watched namespace is removed, and its watches end with quota_exceeded. Configured namespaces stay in the cache. The default suits a process with 2 GiB of memory.`,
  }),
  seedOnStart: bool({
    default: true,
    doc: "Report ready only after all of resolver.namespaces has been received. When false, a resolver is ready as soon as it has the policy.",
  }),
  pruneIntervalMs: ms({
    default: 30_000,
    min: 1000,
    max: HOUR_MS,
    doc: "Interval at which expired cache entries are removed.",
  }),
  resyncIntervalMs: ms({
    default: 300_000,
    min: 10_000,
    max: 24 * HOUR_MS,
    doc: "Interval at which the digest of each followed namespace is compared with the upstream's digest. If the digests differ, the whole namespace is fetched again.",
  }),
  tokenFile: text({
    ...RELOADED_FILE,
    doc: "File with the token that a resolver presents to its upstreams, on one line. The upstreams must grant the token the role mesh.resolve.",
  }),
  tls: bool({
    default: false,
    doc: "Use TLS for connections to the upstreams, and trust the system's CAs. TLS is required for upstreams on other machines.",
  }),
  tlsCaFile: text({
    ...RELOADED_FILE,
    doc: "PEM file with the CAs that issue the certificates of the upstreams. Setting it turns resolver.tls on.",
  }),
  tlsCertFile: text({ ...RELOADED_FILE, doc: "PEM file with the certificate chain that a resolver presents to its upstreams." }),
  tlsKeyFile: text({ ...RELOADED_FILE, doc: "PEM file with the private key of resolver.tls_cert_file." }),
} as const;
