/** Bounds of a policy: one table for its files, for the store that keeps it, and for what peers send of it. */
export const POLICY_BOUNDS = {
  /** Of a policy file, in bytes: a set of 10,000 rules has some 3 MB. */
  maxFileBytes: 8 * 1024 * 1024,
  /** Of an encoded version, in bytes. */
  maxVersionBytes: 16 * 1024 * 1024,
} as const;
