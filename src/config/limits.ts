/** Limits and quotas: the groups `limits` and `quotas` of SETTINGS in `settings.ts`. */
import { NODE_BOUNDS, RECORD_BOUNDS } from "../lib/bounds.ts";
import { DAY_MS, HOUR_MS } from "../lib/duration.ts";
import { bytes, int, ms } from "./field.ts";

const PER_MINUTE = { default: 0, min: 0, max: 1_000_000_000 } as const;

/** The names match `RateLimits` in `policy/limits/rate-limits.ts`, which receives this group as its options. */
const RATE_SETTINGS = {
  readsPerMinute: int({
    ...PER_MINUTE,
    doc: "Maximum number of reads per minute by one tenant; callers without a tenant are counted by principal, or else by address. 0 means no limit.",
  }),
  writesPerMinute: int({
    ...PER_MINUTE,
    doc: "Maximum number of writes per minute by one tenant, excluding lease renewals; callers without a tenant are counted by principal, or else by address. 0 means no limit.",
  }),
  namespaceReadsPerMinute: int({
    ...PER_MINUTE,
    doc: "Maximum number of reads per minute from one namespace by all callers together; 0 means no limit.",
  }),
  namespaceWritesPerMinute: int({
    ...PER_MINUTE,
    doc: "Maximum number of writes per minute to one namespace by all callers together; 0 means no limit.",
  }),
  watches: int({
    default: 0,
    min: 0,
    max: 10_000_000,
    doc: "Maximum number of open watches of one tenant; callers without a tenant are counted by principal, or else by address. 0 means no limit.",
  }),
  windowMs: ms({
    default: 60_000,
    min: 1000,
    max: HOUR_MS,
    doc: "Burst size, as a duration: a caller that has been idle can use the allowance for this period in one burst.",
  }),
  maxKeys: int({
    default: 2000,
    min: 2,
    max: 1_000_000,
    doc: "Number of callers, and of namespaces, that are tracked per rate limit. Above this limit, the least recently used caller or namespace is dropped.",
  }),
} as const;

/** The names also match `EntryBounds` in `catalog/entry/names.ts`: both the rate limits and the catalog receive this whole group as options. */
export const LIMIT_SETTINGS = {
  ...RATE_SETTINGS,
  maxEntryBytes: bytes({
    default: 16_384,
    min: 1024,
    max: RECORD_BOUNDS.maxEntryBytes,
    doc: "Maximum encoded size of an entry, excluding load and timestamps.",
  }),
  maxRequestBytes: bytes({ default: 4_194_304, min: 65_536, max: RECORD_BOUNDS.maxRequestBytes, doc: "Maximum size of a request." }),
  maxRequestEntries: int({
    default: 1000,
    min: 1,
    max: RECORD_BOUNDS.maxRequestEntries,
    doc: "Maximum number of entries, keys, leases or reports in one request.",
  }),
  maxNamespaceLength: int({
    default: 200,
    min: 16,
    max: RECORD_BOUNDS.maxNamespaceLength,
    doc: "Maximum length of a namespace, in characters.",
  }),
  maxLabelLength: int({
    default: 63,
    min: 8,
    max: RECORD_BOUNDS.maxLabelLength,
    doc: "Maximum length of a label of a namespace, in characters.",
  }),
  maxNameLength: int({
    default: 128,
    min: 16,
    max: RECORD_BOUNDS.maxNameLength,
    doc: "Maximum length of a name, instance id, tag, capability or resource, in characters.",
  }),
  maxIdLength: int({
    default: 64,
    min: 16,
    max: RECORD_BOUNDS.maxIdLength,
    doc: `Maximum length of the id of a region, zone, cluster, node or tenant in an entry that a client registers, in characters. The ids in node settings, tokens and policies have at most ${NODE_BOUNDS.maxIdLength} characters.`,
  }),
  maxHostLength: int({
    default: 253,
    min: 16,
    max: RECORD_BOUNDS.maxHostLength,
    doc: "Maximum length of the host of a target, in characters.",
  }),
  maxAliasLength: int({ default: 253, min: 16, max: RECORD_BOUNDS.maxAliasLength, doc: "Maximum length of an alias, in characters." }),
  maxTargets: int({ default: 64, min: 1, max: RECORD_BOUNDS.maxTargets, doc: "Maximum number of targets of an entry." }),
  maxListItems: int({
    default: 64,
    min: 1,
    max: RECORD_BOUNDS.maxListItems,
    doc: "Maximum number of items in each of an entry's other lists, such as its tags.",
  }),
  maxMetadataPairs: int({ default: 64, min: 0, max: RECORD_BOUNDS.maxMetadataPairs, doc: "Maximum number of metadata pairs of an entry." }),
  maxMetadataKeyLength: int({
    default: 63,
    min: 8,
    max: RECORD_BOUNDS.maxMetadataKeyLength,
    doc: "Maximum length of a metadata key, in characters.",
  }),
  maxMetadataValueBytes: bytes({
    default: 1024,
    min: 16,
    max: RECORD_BOUNDS.maxMetadataValueBytes,
    doc: "Maximum size of a metadata value.",
  }),
  maxPatternLength: int({
    default: 256,
    min: 16,
    max: RECORD_BOUNDS.maxPatternLength,
    doc: "Maximum length of the subject pattern of a topic, in characters.",
  }),
  maxUrlLength: int({
    default: 512,
    min: 16,
    max: RECORD_BOUNDS.maxUrlLength,
    doc: "Maximum length of a URL that a node advertises, in characters.",
  }),
  maxEntryTtlMs: ms({ default: DAY_MS, min: 1000, max: RECORD_BOUNDS.maxEntryTtlMs, doc: "Maximum advisory TTL of an entry." }),
} as const;

const COUNT = { default: 0, min: 0, max: 1_000_000_000 } as const;
const BYTES = { default: 0, min: 0, max: 1_099_511_627_776 } as const;

export const QUOTA_SETTINGS = {
  namespaceEntries: int({
    ...COUNT,
    doc: "Maximum number of entries in a namespace whose policy rule does not set this quota; 0 means no limit.",
  }),
  namespaceWatches: int({
    ...COUNT,
    doc: "Maximum number of open watches of a namespace whose policy rule does not set this quota; 0 means no limit.",
  }),
  namespaceBytes: bytes({
    ...BYTES,
    doc: "Maximum total size of the entries in a namespace whose policy rule does not set this quota; 0 means no limit.",
  }),
  tenantEntries: int({ ...COUNT, doc: "Maximum number of entries registered by callers of one tenant; 0 means no limit." }),
  tenantWatches: int({ ...COUNT, doc: "Maximum number of open watches of callers of one tenant; 0 means no limit." }),
  tenantBytes: bytes({ ...BYTES, doc: "Maximum total size of the entries registered by callers of one tenant; 0 means no limit." }),
  tenantChecks: int({
    ...COUNT,
    doc: "Maximum number of checks in the entries that callers of one tenant registered on this node; 0 means no limit.",
  }),
} as const;
