/** Settings of a resolver: the group `resolver` of SETTINGS in `settings.ts`. */
import { HOUR_MS, MINUTE_MS } from "../lib/duration.ts";
import { ADDRESS, bool, bytes, int, list, ms, PATH, text } from "./field.ts";

/** The entry of `resolver.namespaces` that selects the whole catalog. */
export const EVERYTHING = "*";

/** Values of `notForResolver`. */
export const AT_RESOLVER = {
  entry: "a resolver has no NODE entry",
  fabric: "a resolver has no fabric: it reads the servers of resolver.upstreams",
  policy: "a resolver has the policy of its upstreams",
  records: "a resolver has no entries of its own",
} as const;

const LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?";
/** An answer must not be cached for longer than an hour, because the catalog changes. */
const TTL = { min: 1000, max: HOUR_MS } as const;
/** Least memory for each entry of resolver.max_entries, in bytes. Counting how often names are requested uses up to half of it. */
export const LEAST_ENTRY_BYTES = 64;

export const RESOLVER_SETTINGS = {
  upstreams: list({
    pattern: ADDRESS,
    what: 'an address such as "10.0.0.1:17420" or "[fd00::1]:17420"',
    maxItems: 64,
    default: [],
    flag: "--upstream <addresses>",
    doc: "gRPC addresses (host:port) of the servers that a resolver reads: nodes, or other resolvers, of its own cluster and region. It reads the quickest one. A resolver needs at least one.",
  }),
  namespaces: list({
    pattern: new RegExp(`^(?:\\${EVERYTHING}|(?=.{1,200}$)${LABEL}(?:\\.${LABEL})*)$`),
    what: `a namespace, or ${EVERYTHING} for all`,
    maxItems: 1024,
    default: [],
    flag: "--namespaces <namespaces>",
    doc: `Namespaces that a resolver follows from its start, each with all that are below it; ${EVERYTHING} is the whole catalog. At most as many as resolver.max_watches.`,
  }),
  // An upstream accepts 1024 prefixes in one watch.
  maxWatches: int({
    default: 256,
    min: 1,
    max: 1024,
    doc: "Most namespaces that a resolver follows: those of resolver.namespaces, those that its callers watch, and those that are asked for often. The watches of one caller (its tenant, else principal, else address) take at most a quarter of them.",
  }),
  ttlZoneMs: ms({ ...TTL, default: 15_000, doc: "How long a fetched answer is fresh if one of its entries is only for its zone." }),
  ttlRegionMs: ms({
    ...TTL,
    default: 30_000,
    doc: "How long a fetched answer is fresh if its narrowest entry is for its region; at least resolver.ttl_zone.",
  }),
  ttlGlobalMs: ms({
    ...TTL,
    default: MINUTE_MS,
    doc: "How long a fetched answer is fresh if all of its entries are for every region; at least resolver.ttl_region.",
  }),
  negativeTtlMs: ms({
    default: 15_000,
    min: 10_000,
    max: 30_000,
    doc: "How long a resolver says that a fetched name does not exist before it asks again.",
  }),
  maxStaleMs: ms({
    default: HOUR_MS,
    min: 0,
    max: 30 * 24 * HOUR_MS,
    doc: "How long fetched answers are served, marked stale, while no upstream answers; 0 means without end. What is followed is served without end.",
  }),
  guardHoldMs: ms({
    default: 5 * MINUTE_MS,
    min: 1000,
    max: 24 * HOUR_MS,
    doc: "How long lookups still show, ranked last, the entries of a name that lost more than half of them at once by expiry.",
  }),
  maxEntries: int({
    default: 1_000_000,
    min: 1000,
    max: 100_000_000,
    doc: "Most entries that a resolver keeps of what it follows and fetched. The default lets resolver.max_bytes decide, at about 1 KiB for each entry.",
  }),
  maxBytes: bytes({
    default: 1_073_741_824,
    min: 1_048_576,
    max: 1_099_511_627_776,
    doc: `Memory for what a resolver follows and fetched, with its bookkeeping; at least ${LEAST_ENTRY_BYTES} bytes for each of resolver.max_entries. What is configured or watched stays; of the rest, what is asked for least goes first. The default fits a process of 2 GiB.`,
  }),
  seedOnStart: bool({
    default: true,
    doc: "A resolver is ready when all of resolver.namespaces is there. If false, it is ready as soon as it has the policy.",
  }),
  pruneIntervalMs: ms({
    default: 30_000,
    min: 1000,
    max: HOUR_MS,
    doc: "Time between two rounds that drop what may not be served any more.",
  }),
  resyncIntervalMs: ms({
    default: 300_000,
    min: 10_000,
    max: 24 * HOUR_MS,
    doc: "Time in which the digest of each followed namespace is compared with its upstream's once. A namespace that differs is fetched whole.",
  }),
  tokenFile: text({
    ...PATH,
    doc: "File with the token that a resolver shows its upstreams, on one line. It needs the role mesh.resolve there.",
  }),
  tls: bool({
    default: false,
    doc: "Use TLS to the upstreams, and trust the system's authorities. Servers on this machine may do without; all others must have it.",
  }),
  tlsCaFile: text({ ...PATH, doc: "PEM file with the authorities that certificates of upstreams must come from; turns resolver.tls on." }),
  tlsCertFile: text({ ...PATH, doc: "PEM file with the certificate chain that a resolver shows its upstreams." }),
  tlsKeyFile: text({ ...PATH, doc: "PEM file with the private key of resolver.tls_cert_file." }),
} as const;
