/**
 * The files of a data directory: what a node keeps, and a restart therefore finds again. Everything else is in memory only. The rooms that own
 * the files take their names from here; docs/guides/persistence.md has the same list for operators, and a test holds the two together.
 */
export const DATA_FILES = {
  /**
   * An SQLite database: the node id, the generation, the highest seq, the names of starts, one row for each own key (entries and tombstones),
   * leases with the answers to retries, which get their full ttl once more. Its owner is `store/journal/`.
   */
  journal: "journal.db",
  /** The other nodes' records as they were told, to begin with while the node catches up. Its owner is `node/core/snapshots.ts`. */
  snapshot: "replica.snapshot",
  /** The summaries that a node held, of its own cluster and of others, and how old each source's word was. Its owner is `node/regions/summaries-file.io.ts`. */
  summaries: "summaries.snapshot",
  /** What a resolver held, to begin with while it catches up. Its owner is `node/resolver/cache-file.io.ts`. */
  resolver: "followed.copy",
  /** The id of a resolver that was given none. Its owner is `node/resolver/resolver-node.io.ts`. */
  resolverId: "resolver-id",
  /** Ids of the members of the cluster, so that ends of entries are kept for those that are away. Its owner is `node/fabric/members-file.io.ts`. */
  members: "members",
  /** An SQLite database: the versions of the policy, and what the policy file said last. Its owner is `store/control/`. */
  control: "control.db",
  /** An SQLite database: the audit log. Its owner is `store/audit/`. */
  audit: "audit.db",
  /** Empty. It is there from the first time that the node had a peer. Its owner is `node/fabric/members-file.io.ts`. */
  hadPeers: "had-peers",
  /** The serials of the zone that DNS told last, so that they never go back. Its owner is `node/zone-serials.io.ts`. */
  zoneSerials: "zone-serials",
} as const;
