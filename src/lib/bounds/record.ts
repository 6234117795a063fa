/** The bounds of entries that settings and the protocol share. */

/**
 * What a record that is there already may be, whoever wrote it: the top of each setting's range, the same at every node. What one node's
 * settings allow another must hold, or the two never hold the same.
 */
export const RECORD_BOUNDS = {
  maxNamespaceLength: 240,
  maxLabelLength: 63,
  maxNameLength: 1000,
  maxIdLength: 256,
  maxHostLength: 253,
  maxAliasLength: 253,
  maxTargets: 1000,
  maxListItems: 1000,
  maxMetadataPairs: 1000,
  maxMetadataKeyLength: 256,
  maxMetadataValueBytes: 65_536,
  maxPatternLength: 1000,
  maxUrlLength: 4096,
  maxEntryTtlMs: 86_400_000,
  maxEntryBytes: 30_000,
  maxRequestEntries: 100_000,
  maxRequestBytes: 67_108_864,
} as const;
