/** Planted bugs of what is done in slices: touches that an origin's records are owed, withdrawals, changes offered by name (semantics.md, Watch 2 and 12, Tombstones). */
export const SLICE_MUTANTS = [
  {
    name: "a withdrawal that never goes on",
    rule: "Tombstones: what is not listed is withdrawn in slices, and the transfer is over when the last of it is gone",
    edits: [
      {
        file: "src/catalog/replica/touch-sweeps.ts",
        find: "      if (!transfer.isDone) break;\n      this.#closing.delete(transfer);\n",
        replace: "      this.#closing.delete(transfer);\n      if (!transfer.isDone) break;\n",
      },
    ],
    withinSeeds: 200,
  },
  {
    name: "a withdrawal over with its first slice",
    rule: "Tombstones: V moves when the last of what was not listed is gone",
    edits: [{ file: "src/catalog/replica/touch-sweeps.ts", find: "      if (!transfer.isDone) break;\n", replace: "" }],
    withinSeeds: 200,
  },
  {
    name: "what is put again is withdrawn",
    rule: "Tombstones: what news puts again while a transfer is being closed is not withdrawn",
    edits: [
      {
        file: "src/catalog/replica/whole-transfer.ts",
        find: "stored.seq >= 0 && stored.seq <= this.through && this.#isMissing(stored)",
        replace: "stored.seq >= 0 && this.#isMissing(stored)",
      },
    ],
    fromSeed: 101,
    withinSeeds: 250,
  },
  {
    name: "V moved by a last frame",
    rule: "Tombstones: until the last of what was not listed is gone, peers and the snapshot are told the old V",
    edits: [
      {
        file: "src/catalog/replica/whole-transfer.ts",
        find: "    followClosing(origin, this, through, knownSeq);\n",
        replace: "    followClosing(origin, this, through, knownSeq);\n    moveThrough(origin, through, knownSeq);\n",
      },
    ],
    fromSeed: 101,
    withinSeeds: 200,
  },
  {
    name: "told that all is there in the middle of a withdrawal",
    rule: "Tombstones: watches get no END and no bookmark until what was not listed is gone",
    edits: [
      {
        file: "src/fabric/fabric.ts",
        find: "    return this.readiness.isReady && !this.lifecycle.isSettling;",
        replace: "    return this.readiness.isReady;",
      },
    ],
    withinSeeds: 200,
  },
  {
    name: "tombstones collected by number leave no floor",
    rule: "Tombstones: who is below an origin's floor gets a whole transfer, and drops what is not listed",
    edits: [
      {
        file: "src/catalog/replica/replica.ts",
        find: "      stored.origin.floor = Math.max(stored.origin.floor, stored.seq);\n",
        replace: '      if (by === "age") stored.origin.floor = Math.max(stored.origin.floor, stored.seq);\n',
      },
    ],
    withinSeeds: 200,
  },
  {
    name: "what is owed to one origin is owed to all",
    rule: "Watch 2: what was seen of a key is known while touches are owed to others",
    edits: [
      {
        file: "src/catalog/replica/touch-sweeps.ts",
        find: "    if (sweep === undefined) return NO_PENDING_TOUCH;",
        replace: '    if (sweep === undefined) return { before: "seen", since: 0, between: UNSURE };',
      },
    ],
    withinSeeds: 200,
  },
  {
    name: "only the first slice of many changes is offered by name",
    rule: "Watch 12: a change wakes the watches that it concerns, however many come at once",
    edits: [
      {
        file: "src/catalog/watch/name-index.ts",
        find: "    if (this.isBehind && !this.#offerSome(concerns)) return;\n",
        replace: "    if (this.isBehind) this.#offerSome(concerns);\n",
      },
    ],
    withinSeeds: 40,
  },
] as const;
