/** Bounds of what a node says of itself: one table for its settings, for its own entry, and for what its peers take of it. */

export const NODE_BOUNDS = {
  /** Of ids of nodes, clusters, regions, zones and tenants, and of roles and transports; in characters of `[A-Za-z0-9._:/@+-]`. */
  maxIdLength: 64,
  /** `host:port`, with a host of 253 characters in brackets. */
  maxAddressLength: 263,
  /** Of a program version, in characters. */
  maxVersionLength: 64,
  maxRoles: 16,
  maxTransports: 16,
  maxProtocolVersions: 16,
  /** Clusters beside its own whose policy it takes. */
  maxPolicyFrom: 256,
  maxLabels: 64,
  /** In characters of `[A-Za-z0-9._:/@+-]`. */
  maxLabelKeyLength: 63,
  /** In characters. */
  maxLabelValueLength: 256,
  /** Roles and labels together, in bytes of UTF-8: every member of the cluster keeps them, and they travel in one message. */
  maxFactsBytes: 8_192,
} as const;

/** A host of at most 253 characters: a name, an IPv4 literal, or an IPv6 literal with an optional zone. */
export const NODE_HOST = /^(?=.{1,253}$)(?:[A-Za-z0-9._-]+|(?=[^%]*:)[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?)$/;

/** A host that others can connect to: none that means every address of whoever reads it (`0.0.0.0`, `::`). */
export const REACHABLE_HOST = new RegExp(`^(?![0.:]+$)${NODE_HOST.source.slice(1)}`);

const utf8 = new TextEncoder();

/** Size of roles and labels together, in bytes of UTF-8. */
export function factsBytes(roles: readonly string[], labels: Readonly<Record<string, string>>): number {
  let size = 0;
  for (const text of [...roles, ...Object.entries(labels).flat()]) size += utf8.encode(text).length;
  return size;
}
