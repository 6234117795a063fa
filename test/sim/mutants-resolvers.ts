/** Planted bugs of resolvers: whom they judge and by which policy, what they hold and for how long, on their disks too, and what they say of its age and its place. */
export const RESOLVER_MUTANTS = [
  {
    name: "a name is asked for before the policy",
    rule: "Resolver 15: nobody is answered under a policy that is older than one of which the resolver has heard",
    edits: [{ file: "src/services/resolving/name-calls.ts", find: "if (!isPolicyHere(machine, namespace)) return AGAIN;", replace: "" }],
    withinSeeds: 30,
    isOfResolvers: true,
  },
  {
    name: "a verdict without viewer",
    rule: "Resolver 1 and 15: a resolver judges each caller by itself",
    edits: [
      {
        file: "src/discovery/reads.ts",
        find: "    return this.#policyFor(caller).viewer(namespace, { clusterId: caller.cluster, tenant: caller.tenant });",
        replace:
          '    return this.#policyFor(caller).viewer(namespace, { clusterId: caller.cluster, tenant: caller.tenant === "" ? "" : "nobody" });',
      },
    ],
    withinSeeds: 30,
    isOfResolvers: true,
    isCheap: true,
  },
  {
    name: "an old policy is kept",
    rule: "Resolver 15: a resolver takes each newer version of the policy",
    edits: [
      {
        file: "src/resolver/policy/watched-policy.ts",
        find: "if (isNewer(version, this.#engine.place)) this.#engine.take(version, sizeBytes);",
        replace: "if (this.#engine.newestNumber === 0) this.#engine.take(version, sizeBytes);",
      },
    ],
    withinSeeds: 30,
    isOfResolvers: true,
    isCheap: true,
  },
  {
    name: "a resolver has LOCAL entries",
    rule: "Resolver 2: LOCAL entries are left out of what a resolver is sent",
    edits: [
      {
        file: "src/catalog/query/filter.ts",
        find: "if (record.scope < filter.scope || (record.scope === SCOPE.LOCAL && filter.resolved !== undefined)) return",
        replace: "if (record.scope < filter.scope) return",
      },
      {
        file: "src/resolver/watching/watched-catalog.ts",
        find: '    if (stamped.scope === SCOPE.LOCAL) throw misplaced("entry has scope LOCAL");\n',
        replace: "",
      },
    ],
    withinSeeds: 30,
    isOfResolvers: true,
    isCheap: true,
  },
  {
    name: "what is not known yet is empty",
    rule: "Resolver 14 and 17: a namespace is unknown before its first END",
    edits: [
      {
        file: "src/resolver/watching/upstream-watches.ts",
        find: "watch?.isComplete === true && watch.prefixes.covers(namespace);",
        replace: "watch !== undefined && watch.prefixes.covers(namespace);",
      },
    ],
    withinSeeds: 30,
    isOfResolvers: true,
    isCheap: true,
  },
  {
    name: "a negative answer outlives its put",
    rule: "Resolver 12: an answer that nothing exists is never served beyond its time",
    edits: [
      {
        file: "src/resolver/fetching/shared-fetches.ts",
        find: 'return isNegative || state === "miss" ? "miss" : "stale";',
        replace: 'return isNegative || state !== "miss" ? "stale" : "miss";',
      },
    ],
    withinSeeds: 200,
    isOfResolvers: true,
  },
  {
    name: "the guard keeps what was unregistered",
    rule: "Resolver 16: that a key was unregistered ends the hold at once",
    edits: [
      {
        file: "src/resolver/cache/retained-entries.ts",
        find: "    if (cause !== CAUSE.EXPIRED) {\n",
        replace: "    if (cause !== CAUSE.EXPIRED && cause !== CAUSE.UNREGISTERED) {\n",
      },
    ],
    withinSeeds: 100,
    isOfResolvers: true,
    isCheap: true,
  },
  {
    name: "the guard holds without end",
    rule: "Resolver 16: lookups keep held entries for resolver.guard_hold",
    edits: [
      {
        file: "src/resolver/cache/retained-entries.ts",
        find: "    this.#guard.tick(monoMs);",
        replace: "    void monoMs;",
      },
    ],
    withinSeeds: 100,
    isOfResolvers: true,
  },
  {
    name: "a held entry is in a cursor",
    rule: "Resolver 16: watches, digests and cursors have no held entries",
    edits: [
      {
        file: "src/resolver/watching/watched-catalog.ts",
        find: "      this.#options.replica.withdraw(stored, time);\n      this.#options.replica.causes.set(stored, cause);\n",
        replace: "      if (cause === CAUSE.NO_MATCH) this.#options.replica.withdraw(stored, time);\n",
      },
    ],
    withinSeeds: 100,
    isOfResolvers: true,
  },
  {
    name: "a cursor between bookmarks",
    rule: "Resolver 7: only where a resolver holds what the last bookmark says do its readers get a portable cursor",
    edits: [
      {
        file: "src/resolver/watching/bookmarks.ts",
        find: "if (last === undefined || !this.isAtBookmark || last.cursor.policyEpoch !== policyEpoch)",
        replace: "if (last === undefined || last.cursor.policyEpoch !== policyEpoch)",
      },
    ],
    withinSeeds: 100,
    isOfResolvers: true,
    isCheap: true,
  },
  {
    name: "another upstream makes the data young",
    rule: "Resolver 9: a message of another upstream that is no bookmark changes no age",
    edits: [
      {
        file: "src/resolver/parts.ts",
        find: "  if (message.snapshot === SNAPSHOT.BEGIN) return;\n",
        replace: "",
      },
      { file: "src/resolver/parts.ts", find: "  if (!watches.isInStep(stream)) return;\n", replace: "" },
    ],
    withinSeeds: 100,
    isOfResolvers: true,
  },
  {
    name: "what an upstream says counts from when it is read",
    rule: "Resolver 9: a statement counts from when it may have been made at the earliest, whatever delayed it",
    edits: [
      {
        file: "src/resolver/parts.ts",
        find: "stated(message.ageMs + delayMs, time, message.unreachable)",
        replace: "stated(message.ageMs, time, message.unreachable)",
      },
    ],
    withinSeeds: 30,
    isOfResolvers: true,
  },
  {
    name: "a version that did not come into force is known",
    rule: "Resolver 15: while it lacks a version under which something that it heard was made it is not ready",
    edits: [
      {
        file: "src/resolver/policy/watched-policy.ts",
        find: "    this.#arrived.push({ version: read.version, sizeBytes });\n",
        replace: "    this.#arrived.push({ version: read.version, sizeBytes });\n    this.#seen.set(epochOf(place), true);\n",
      },
    ],
    withinSeeds: 100,
    isOfResolvers: true,
  },
  {
    name: "a watch of fewer namespaces forgets that it is past its place",
    rule: "Resolver 14: until its first bookmark only the same upstream can go on from the earlier of two places",
    edits: [
      {
        file: "src/resolver/watching/watched-catalog.ts",
        find: "    watch.isAheadOfCheckpoint = this.isAheadOfCheckpoint;\n",
        replace: "",
      },
    ],
    withinSeeds: 100,
    isOfResolvers: true,
  },
  {
    name: "half of what was fetched again is taken along to another upstream",
    rule: "Resolver 14: a snapshot that was not finished is let go with its stream",
    edits: [{ file: "src/resolver/watching/watched-catalog.ts", find: "    this.isAheadOfCheckpoint = true;\n", replace: "" }],
    fromSeed: 201,
    withinSeeds: 300,
    isOfResolvers: true,
  },
  {
    name: "a node of which a reader knows nothing is taken for known",
    rule: "Resolver 7: a reader with a portable cursor is told everything since the newest bookmark that it is past",
    edits: [
      {
        file: "src/resolver/watching/bookmarks.ts",
        find: "if (its === undefined ? seq > 0 : knownOf(its) < seq",
        replace: "if (its === undefined ? seq < 0 : knownOf(its) < seq",
      },
    ],
    withinSeeds: 100,
    isOfResolvers: true,
  },
  {
    name: "a loop is not seen",
    rule: "Resolver 10: a resolver refuses an upstream whose data comes through itself",
    edits: [
      { file: "src/resolver/upstreams.ts", find: '["loop", via.includes(name)],', replace: '["loop", false],' },
      { file: "src/services/resolving/reads.ts", find: "if (via.some((name) => own.includes(name)))", replace: "if (via.length > 99)" },
    ],
    withinSeeds: 100,
    isOfResolvers: true,
  },
  {
    name: "a digest round compares nothing",
    rule: "Resolver 20: what differs from the upstream is found by its digest",
    edits: [
      {
        file: "src/resolver/maintenance/digest-check.ts",
        find: 'return expected.count === digest.count && expected.digest === digest.digest ? "same" : "differs";',
        replace: 'return expected.count >= 0 ? "same" : "differs";',
      },
    ],
    withinSeeds: 30,
    isOfResolvers: true,
    isCheap: true,
  },
  {
    name: "what changes while digests are compared is not reckoned in",
    rule: "Resolver 20: a namespace that changes all the time is compared as well",
    edits: [
      {
        file: "src/resolver/maintenance/digest-check.ts",
        find: "    for (const [key, id] of this.#received) {\n",
        replace: "    for (const [key, id] of new Map<KeyText, string>()) {\n",
      },
      {
        file: "src/resolver/maintenance/digest-rounds.ts",
        find: 'return verdict === "differs" && wasSuspect ? [prefix] : [];',
        replace: 'return verdict === "differs" ? [prefix] : [];',
      },
    ],
    withinSeeds: 30,
    isOfResolvers: true,
  },
  {
    name: "a copy on disk forgets its age",
    rule: "Resolver 9: a copy on disk is as old as it was when it was saved and the time since",
    edits: [
      {
        file: "src/resolver/upstream-freshness.ts",
        find: "wallMs < savedWallMs ? Number.POSITIVE_INFINITY : ageMs + wallMs - savedWallMs",
        replace: "wallMs < savedWallMs ? Number.POSITIVE_INFINITY : ageMs",
      },
    ],
    withinSeeds: 30,
    isOfResolvers: true,
    isCheap: true,
  },
  {
    name: "a copy on disk has no policy",
    rule: "Resolver 18: the policy of the copy is in force until an upstream has a newer one",
    edits: [
      {
        file: "src/resolver/policy/watched-policy.ts",
        find: "    this.#arrived = [...versions];\n    this.#acceptArrived();\n",
        replace: "",
      },
    ],
    withinSeeds: 100,
    isOfResolvers: true,
  },
  {
    name: "what a copy on disk has counts as told by an upstream",
    rule: "Resolver 18: a restart serves the copy as stale and with the source DISK until an upstream has sent a bookmark",
    edits: [{ file: "src/resolver/disk/restore.ts", find: "  watch.isFromDisk = true;\n", replace: "" }],
    withinSeeds: 30,
    isOfResolvers: true,
    isCheap: true,
  },
  {
    name: "a copy on disk of another node is served",
    rule: "Resolver 18: a copy of another node changes nothing",
    edits: [
      {
        file: "src/lib/file-blocks.ts",
        find: "if (nodeId !== self.nodeId) return",
        replace: "if (typeof nodeId !== typeof self.nodeId) return",
      },
    ],
    withinSeeds: 100,
    isOfResolvers: true,
  },
  {
    name: "a policy falls on a fail-over",
    rule: "Resolver 15: a resolver takes no version that is older than what it has",
    edits: [
      {
        file: "src/resolver/policy/watched-policy.ts",
        find: "if (isNewer(version, this.#engine.place)) this.#engine.take(version, sizeBytes);",
        replace: "this.#engine.take(version, sizeBytes);",
      },
    ],
    withinSeeds: 100,
    isOfResolvers: true,
    isCheap: true,
  },
];
