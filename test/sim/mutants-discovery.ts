/** Planted bugs of the room `discovery`: how entries come and end, and who is told of a change. */
export const DISCOVERY_MUTANTS = [
  {
    name: "a mark ends what is still renewed",
    rule: "Orphans: an origin puts again what has a live lease",
    edits: [
      {
        file: "src/discovery/registrar/registrar.ts",
        find: "if (renewed !== undefined && this.entryRemovals.lostEntries.has(id))",
        replace: "if (renewed === undefined && this.entryRemovals.lostEntries.has(id))",
      },
    ],
    withinSeeds: 40,
    isOfLost: true,
  },
  {
    name: "static entries end with their node",
    rule: "Stop: a node that leaves hands its static entries over",
    edits: [
      { file: "src/discovery/registrar/hand-over.ts", find: "    return stored.scope !== SCOPE.LOCAL;", replace: "    return false;" },
    ],
    withinSeeds: 100,
  },
  {
    name: "taken over though it was taken out",
    rule: "Stop: who takes an entry over leaves what was taken out or written since",
    edits: [
      {
        file: "src/discovery/registrar/hand-over.ts",
        find: "isEntryAbove(stored, offered) || endsBeforeHlc(stored) > offered.hlc;",
        replace: "isEntryAbove(stored, offered);",
      },
    ],
    fromSeed: 601,
    withinSeeds: 700,
  },
  {
    name: "the end of a static entry is not told",
    rule: "Several origins: a node tells of its static entries that another's word ended",
    edits: [{ file: "src/discovery/registrar/entry-removals.ts", find: "      this.#endedStatic.push(key);", replace: "" }],
    withinSeeds: 100,
  },
  {
    name: "no lease ends when the clock is at its end",
    rule: "Durability, numbers from outside: what ends an own record can always be stamped",
    edits: [
      {
        file: "src/discovery/registrar/entry-removals.ts",
        find: "body === BODY.EXPIRED ? record.hlc : hlc.stampAbove",
        replace: "hlc.stampAbove",
      },
    ],
    withinSeeds: 60,
  },
  {
    name: "what a refused batch took back is not looked at again",
    rule: "Several origins: what another node unregistered is ended by its own node, also when the batch that ended it was refused",
    edits: [{ file: "src/discovery/registrar/registrar.ts", find: "    this.entryRemovals.retry(time);\n", replace: "" }],
    withinSeeds: 200,
    fromSeed: 61,
  },
  {
    name: "unregistered counts as expired",
    rule: "Several origins: what was unregistered at B does not show A's old record",
    edits: [
      {
        file: "src/discovery/registrar/entry-removals.ts",
        find: "    this.#addTombstone(record, BODY.UNREGISTERED, this.#stampOf(record, BODY.UNREGISTERED, time));",
        replace: "    this.#addTombstone(record, BODY.EXPIRED, this.#stampOf(record, BODY.EXPIRED, time));",
      },
    ],
    withinSeeds: 100,
  },
  {
    name: "every load told",
    rule: "Load: reports replicate only when their band changes, at most once in an interval",
    edits: [
      {
        file: "src/discovery/registrar/load-reports.ts",
        find: "    if (!isDue || sinceSentMs < this.#intervalMs) return false;",
        replace: "",
      },
    ],
    withinSeeds: 100,
  },
  {
    name: "a change wakes no watch of a prefix",
    rule: "Watch 12: a change wakes the watches that it concerns, as it comes",
    edits: [{ file: "src/discovery/fanout.ts", find: "      this.#readyAll(this.#prefix.get(namespace));", replace: "" }],
    withinSeeds: 40,
    isCheap: true,
  },
  {
    name: "a change wakes no watch of its name",
    rule: "Watch 12: a change wakes the watches that it concerns, as it comes",
    edits: [
      {
        file: "src/discovery/fanout.ts",
        find: "    this.#names?.offer((reader) => this.#readyAll(this.#named.get(reader)));",
        replace: "    this.#names?.offer(() => undefined);",
      },
    ],
    withinSeeds: 5,
  },
  {
    name: "a watch of names passes over a change that it was not told",
    rule: "Watch 12: a watch of names knows where nothing concerned it",
    edits: [
      {
        file: "src/catalog/watch/name-index.ts",
        find: "return Math.max(from, next === undefined ? this.#index.through : next.after);",
        replace: "return this.#index.through;",
      },
    ],
    withinSeeds: 5,
  },
  {
    name: "the end of a lease draws later writes after it",
    rule: "Several origins: the stamp of an `expired` does not count for what is written after it",
    edits: [
      {
        file: "src/discovery/registrar/entry-removals.ts",
        find: "  return record.body === BODY.EXPIRED ? endsBeforeHlc(record) : record.hlc;",
        replace: "  return record.hlc;",
      },
    ],
    withinSeeds: 40,
    isCheap: true,
  },
];
