/**
 * The files of a data directory, which survive a restart. All other data is only in memory. The modules that own the files import the names from
 * here. docs/guides/persistence.md has the same list for operators, and a test compares the two.
 */
export const DATA_FILES = {
  /**
   * An SQLite database: the node ID, the generation, the highest seq, the names of process instances, one row per key of this node (entries
   * and tombstones), and leases with the answers for retries. Restored leases get their full TTL again. Its owner is `store/journal/`.
   */
  journal: "journal.db",
  /** The received records of other nodes, used while the node catches up. Its owner is `node/core/snapshots.ts`. */
  snapshot: "replica.snapshot",
  /**
   * The service summaries that a node had, of its own cluster and of others, with the age of each source's data. Its owner is
   * `node/regions/summaries-file.io.ts`.
   */
  summaries: "summaries.snapshot",
  /** The cached data of a resolver, used while it catches up. Its owner is `node/resolver/cache-file.io.ts`. */
  resolver: "followed.copy",
  /** The generated ID of a resolver without a configured one. Its owner is `node/resolver/resolver-node.io.ts`. */
  resolverId: "resolver-id",
  /**
   * IDs of the members of the cluster, so that tombstones are kept for unreachable members. Its owner is
   * `node/fabric/members-file.io.ts`.
   */
  members: "members",
  /** An SQLite database: the versions of the policy, and the last policy of the policy file. Its owner is `store/control/`. */
  control: "control.db",
  /** An SQLite database: the audit log. Its owner is `store/audit/`. */
  audit: "audit.db",
  /** An empty file, which exists once the node has had a peer. Its owner is `node/fabric/members-file.io.ts`. */
  hadPeers: "had-peers",
  /** The last published serials of the DNS zones, so that they never decrease. Its owner is `node/zone-serials.io.ts`. */
  zoneSerials: "zone-serials",
} as const;
