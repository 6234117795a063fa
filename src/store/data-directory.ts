/**
 * The files of a data directory, which survive a restart. All other data is kept only in memory. The modules that own the files import their names
 * from this module. docs/guides/persistence.md has the same list for operators, and a test compares the two.
 */
export const DATA_FILES = {
  /**
   * An SQLite database: the node ID, the generation, the highest seq, the names of process instances, one row per key of this node (entries
   * and tombstones), and leases with the answers for retries. Restored leases get their full TTL again. Owned by `store/journal/`.
   */
  journal: "journal.db",
  /** The records received from other nodes, used while the node catches up. Owned by `node/core/snapshots.ts`. */
  snapshot: "replica.snapshot",
  /**
   * The service summaries that a node had from its own cluster and from others, with the age of each source's data. Owned by
   * `node/regions/summaries-file.io.ts`.
   */
  summaries: "summaries.snapshot",
  /** The cached data of a resolver, used while the resolver catches up. Owned by `node/resolver/cache-file.io.ts`. */
  resolver: "followed.copy",
  /** The generated ID of a resolver for which no ID is configured. Owned by `node/resolver/resolver-node.io.ts`. */
  resolverId: "resolver-id",
  /**
   * IDs of the members of the cluster, so that tombstones are kept for unreachable members. Owned by `node/fabric/members-file.io.ts`.
   */
  members: "members",
  /** An SQLite database: the versions of the policy, and the last policy that was applied from the policy file. Owned by `store/control/`. */
  control: "control.db",
  /** An SQLite database: the audit log. Owned by `store/audit/`. */
  audit: "audit.db",
  /**
   * A directory: the private key and the certificate that an issuer of the cluster made for this node, the accepted roots, and on an issuer the
   * issuing certificate. Owned by `node/identity/directory.io.ts`.
   */
  identity: "identity",
  /** The token that makes a caller on this machine an administrator. It is new at each start. Owned by `node/callers.io.ts`. */
  operatorToken: "operator.token",
  /** An empty file, which exists if the node has ever had a peer. Owned by `node/fabric/members-file.io.ts`. */
  hadPeers: "had-peers",
  /** The last published serials of the DNS zones, so that they never decrease. Owned by `node/zone-serials.io.ts`. */
  zoneSerials: "zone-serials",
} as const;
