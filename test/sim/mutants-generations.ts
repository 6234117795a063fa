/** Planted bugs of what becomes of a node's old generations (semantics.md, Several origins for one key, Orphans, Tombstones). */
export const GENERATION_MUTANTS = [
  {
    name: "an end that hides an earlier generation is collected",
    rule: "Tombstones: one that still hides an older record stays, also one of an earlier generation of its node",
    edits: [
      {
        file: "src/catalog/replica/tombstones.ts",
        find: "(stored.hlc < endedHlc || endsEarlierGeneration(record, stored))",
        replace: "stored.hlc < endedHlc",
      },
    ],
    withinSeeds: 12,
    isOfGenerations: true,
    isCheap: true,
  },
  {
    name: "tombstones go while somebody is away who has an old generation",
    rule: "Tombstones: dropped for their age only when nobody is away who may come back, or has come back just now",
    edits: [
      {
        file: "src/fabric/readiness.ts",
        find: "    if (!isInStep || isAnybodyAway || isSomebodyBack) {",
        replace: "    void [isAnybodyAway, isSomebodyBack];\n    if (!isInStep) {",
      },
    ],
    withinSeeds: 12,
    isOfGenerations: true,
    isCheap: true,
  },
  {
    name: "who is back has heard everything",
    rule: "Orphans: an origin is lost until it is back and everybody has been in step for 30 s",
    edits: [
      {
        file: "src/fabric/readiness.ts",
        find: "isAnybodyAway || isSomebodyBack) {",
        replace: "isAnybodyAway) {\n      void isSomebodyBack;",
      },
    ],
    withinSeeds: 12,
    isOfGenerations: true,
  },
  {
    name: "who is back in a later generation has heard everything",
    rule: "Orphans: an origin is lost until its node is back, in a later generation too, and everybody has been in step for 30 s",
    edits: [{ file: "src/catalog/replica/lost-origins.ts", find: "(isLater && lost.through === lost.mark)", replace: "isLater" }],
    withinSeeds: 12,
    isOfGenerations: true,
  },
  {
    name: "who is there in a later generation is forgotten at once as it was",
    rule: "Orphans: what a node was before is served on for `fabric.orphan_grace`, and forgotten after `fabric.origin_forget`",
    edits: [
      {
        file: "src/fabric/origin-lifecycle.ts",
        find: "row.sinceMonoMs + this.#options.originForgetMs;",
        replace: 'row.sinceMonoMs + (row.absence === "replaced" ? 0 : this.#options.originForgetMs);',
      },
    ],
    withinSeeds: 12,
    isOfGenerations: true,
    isCheap: true,
  },
  {
    name: "a node is there again when what it was is forgotten",
    rule: "Orphans: nothing is hidden when more than half die at once; a node of several origins counts once, for as long as one is missing",
    edits: [
      {
        file: "src/fabric/origin-lifecycle.ts",
        find: "    if (this.#rows.values().some(({ origin }) => origin.nodeId === row.origin.nodeId)) return;\n",
        replace: "",
      },
    ],
    withinSeeds: 12,
    isOfGenerations: true,
    isCheap: true,
  },
  {
    name: "an ended lease comes back with a new generation",
    rule: "Several origins: what ends a record of a later generation of a node ends what its earlier ones said up to its stamp",
    edits: [
      {
        file: "src/catalog/replica/view.ts",
        find: "(newest?.get(origin.nodeId) ?? 0) > origin.generation",
        replace: "false",
      },
    ],
    fromSeed: 151,
    withinSeeds: 200,
  },
] as const;
