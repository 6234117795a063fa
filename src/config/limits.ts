/** Settings of limits and rates: the groups `limits` and `quotas` of SETTINGS in `settings.ts`. */
import { NODE_BOUNDS, RECORD_BOUNDS } from "../lib/bounds.ts";
import { DAY_MS, HOUR_MS } from "../lib/duration.ts";
import { bytes, int, ms } from "./field.ts";

const PER_MINUTE = { default: 0, min: 0, max: 1_000_000_000 } as const;

/** The names are the same as in `RateLimits` (`policy/limits/rate-limits.ts`), which gets this group as its options. */
const RATE_SETTINGS = {
  readsPerMinute: int({ ...PER_MINUTE, doc: "Reads a minute of one tenant, else principal, else address; 0 means any number." }),
  writesPerMinute: int({
    ...PER_MINUTE,
    doc: "Writes a minute of one tenant, else principal, else address, without renewals; 0 means any number.",
  }),
  namespaceReadsPerMinute: int({ ...PER_MINUTE, doc: "Reads a minute of one namespace by all callers together; 0 means any number." }),
  namespaceWritesPerMinute: int({ ...PER_MINUTE, doc: "Writes a minute in one namespace by all callers together; 0 means any number." }),
  watches: int({
    default: 0,
    min: 0,
    max: 10_000_000,
    doc: "Open watches of one tenant, else principal, else address; 0 means any number.",
  }),
  windowMs: ms({ default: 60_000, min: 1000, max: HOUR_MS, doc: "Span of time whose whole share of a rate limit may be used at once." }),
  maxKeys: int({
    default: 2000,
    min: 2,
    max: 1_000_000,
    doc: "Callers, and namespaces, whose use of each rate limit is remembered. The one that called longest ago goes first.",
  }),
} as const;

/** The names are the same as in `Bounds` (`catalog/entry/names.ts`): the rate limits and the catalog get this whole group as options. */
export const LIMIT_SETTINGS = {
  ...RATE_SETTINGS,
  maxEntryBytes: bytes({
    default: 16_384,
    min: 1024,
    max: RECORD_BOUNDS.maxEntryBytes,
    doc: "Largest encoded entry, without load and times.",
  }),
  maxRequestBytes: bytes({ default: 4_194_304, min: 65_536, max: RECORD_BOUNDS.maxRequestBytes, doc: "Largest request." }),
  maxRequestEntries: int({
    default: 1000,
    min: 1,
    max: RECORD_BOUNDS.maxRequestEntries,
    doc: "Most entries, keys, leases or reports in one request.",
  }),
  maxNamespaceLength: int({ default: 200, min: 16, max: RECORD_BOUNDS.maxNamespaceLength, doc: "Longest namespace." }),
  maxLabelLength: int({ default: 63, min: 8, max: RECORD_BOUNDS.maxLabelLength, doc: "Longest label of a namespace." }),
  maxNameLength: int({
    default: 128,
    min: 16,
    max: RECORD_BOUNDS.maxNameLength,
    doc: "Longest name, instance id, tag, capability or resource.",
  }),
  maxIdLength: int({
    default: 64,
    min: 16,
    max: RECORD_BOUNDS.maxIdLength,
    doc: `Longest id of a region, zone, cluster, node or tenant in an entry of a client. Ids of nodes themselves, of tokens and of policies have at most ${NODE_BOUNDS.maxIdLength} characters.`,
  }),
  maxHostLength: int({ default: 253, min: 16, max: RECORD_BOUNDS.maxHostLength, doc: "Longest host of a target." }),
  maxAliasLength: int({ default: 253, min: 16, max: RECORD_BOUNDS.maxAliasLength, doc: "Longest alias." }),
  maxTargets: int({ default: 64, min: 1, max: RECORD_BOUNDS.maxTargets, doc: "Most targets of an entry." }),
  maxListItems: int({
    default: 64,
    min: 1,
    max: RECORD_BOUNDS.maxListItems,
    doc: "Most items of each other list of an entry, such as its tags.",
  }),
  maxMetadataPairs: int({ default: 64, min: 0, max: RECORD_BOUNDS.maxMetadataPairs, doc: "Most metadata pairs of an entry." }),
  maxMetadataKeyLength: int({ default: 63, min: 8, max: RECORD_BOUNDS.maxMetadataKeyLength, doc: "Longest metadata key." }),
  maxMetadataValueBytes: bytes({ default: 1024, min: 16, max: RECORD_BOUNDS.maxMetadataValueBytes, doc: "Largest metadata value." }),
  maxPatternLength: int({ default: 256, min: 16, max: RECORD_BOUNDS.maxPatternLength, doc: "Longest subject pattern of a topic." }),
  maxUrlLength: int({ default: 512, min: 16, max: RECORD_BOUNDS.maxUrlLength, doc: "Longest url a node advertises." }),
  maxEntryTtlMs: ms({ default: DAY_MS, min: 1000, max: RECORD_BOUNDS.maxEntryTtlMs, doc: "Longest advisory ttl of an entry." }),
} as const;

const COUNT = { default: 0, min: 0, max: 1_000_000_000 } as const;
const BYTES = { default: 0, min: 0, max: 1_099_511_627_776 } as const;

export const QUOTA_SETTINGS = {
  namespaceEntries: int({ ...COUNT, doc: "Entries of a namespace whose policy rule sets no such quota; 0 means any number." }),
  namespaceWatches: int({ ...COUNT, doc: "Open watches of a namespace whose policy rule sets no such quota; 0 means any number." }),
  namespaceBytes: bytes({ ...BYTES, doc: "Size of the entries of a namespace whose policy rule sets no such quota; 0 means any." }),
  tenantEntries: int({ ...COUNT, doc: "Entries that callers of one tenant registered; 0 means any number." }),
  tenantWatches: int({ ...COUNT, doc: "Open watches of callers of one tenant; 0 means any number." }),
  tenantBytes: bytes({ ...BYTES, doc: "Size of the entries that callers of one tenant registered; 0 means any." }),
  tenantChecks: int({
    ...COUNT,
    doc: "Checks of the entries that callers of one tenant registered on this node; 0 means any number.",
  }),
} as const;
