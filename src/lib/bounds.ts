/**
 * Bounds that are shared by several modules: settings, the wire, and the store. Each bound is defined once, so that every node accepts all values
 * that another node may send.
 */
import { DAY_MS } from "./duration.ts";

/**
 * Limits of the largest record on any node. They are the upper ends of the setting ranges in `config/limits.ts`. Nodes with different settings must
 * be able to store each other's records. Otherwise, they would never have the same records.
 */
export const RECORD_BOUNDS = {
  maxNamespaceLength: 240,
  maxLabelLength: 63,
  maxNameLength: 1000,
  maxIdLength: 256,
  maxHostLength: 253,
  maxAliasLength: 253,
  maxTargets: 1000,
  /** Applies to the lists of tags, capabilities, resources, and aliases, and to every list in a detail. */
  maxListItems: 1000,
  maxMetadataPairs: 1000,
  maxMetadataKeyLength: 256,
  maxMetadataValueBytes: 65_536,
  maxPatternLength: 1000,
  maxUrlLength: 4096,
  maxEntryTtlMs: DAY_MS,
  /** Size of an encoded entry without its load and times. */
  maxEntryBytes: 30_000,
  maxRequestEntries: 100_000,
  maxRequestBytes: 67_108_864,
} as const;

/** Bounds of a node's facts about itself, which appear in its settings, in its own entry, and in messages that its peers accept. */
export const NODE_BOUNDS = {
  /** Maximum length of ids of nodes, clusters, regions, zones, and tenants, and of roles and transports, in characters of `[A-Za-z0-9._:/@+-]`. */
  maxIdLength: 64,
  /** Maximum length of `host:port`, with a host of 253 characters in brackets. */
  maxAddressLength: 263,
  /** Maximum length of a program version, in characters. */
  maxVersionLength: 64,
  maxRoles: 16,
  maxTransports: 16,
  maxProtocolVersions: 16,
  /** Maximum number of other clusters whose policy the node accepts. */
  maxPolicyFrom: 256,
  /** Maximum number of fabric addresses that are used to join. */
  maxSeeds: 1000,
  maxLabels: 64,
  /** In characters of `[A-Za-z0-9._:/@+-]`. */
  maxLabelKeyLength: 63,
  /** In characters. */
  maxLabelValueLength: 256,
  /** Maximum size of roles and labels together, in bytes of UTF-8. Every member of the cluster stores them, and one message contains all of them. */
  maxFactsBytes: 8_192,
} as const;

export const LABEL_KEY = new RegExp(`^[A-Za-z0-9._:/@+-]{1,${NODE_BOUNDS.maxLabelKeyLength}}$`);

/** The metadata keys that Waymark itself uses. `catalog/entry/rules.ts` validates their values. */
export const METADATA_KEY = {
  /** A host name that DNS returns as a CNAME for an entry that has no targets (semantics.md, DNS). */
  CNAME: "waymark.dns.cname",
  /** The name of the import that owns an entry and is allowed to remove it. */
  IMPORT: "waymark.import",
} as const;

/** A host of at most 253 characters: a name, an IPv4 literal, or an IPv6 literal with an optional zone. */
export const NODE_HOST = /^(?=.{1,253}$)(?:[A-Za-z0-9._-]+|(?=[^%]*:)[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?)$/;

const utf8 = new TextEncoder();

/** Size of roles and labels together, in bytes of UTF-8. */
export function factsBytes(roles: readonly string[], labels: Readonly<Record<string, string>>): number {
  let size = 0;
  for (const text of [...roles, ...Object.entries(labels).flat()]) size += utf8.encode(text).length;
  return size;
}

/** Bounds of a policy in files, in the store, and in messages between peers. */
export const POLICY_BOUNDS = {
  /** Maximum size of a policy file, in bytes. A set of 10,000 rules needs about 3 MB. */
  maxFileBytes: 8 * 1024 * 1024,
  /** Maximum size of an encoded version, in bytes. */
  maxVersionBytes: 16 * 1024 * 1024,
} as const;

/** Maximum number of prepared DNS answers without records that the gateway caches. */
export const MAX_NEGATIVE_DNS_PLANS = 2_000;

/** Bounds of the lease of a leader's session. */
export const LEASE_BOUNDS = { minMs: 1500, maxMs: 60_000 } as const;
