/** Planted bugs of read workers: what a copy of the replica is told, when, and who waits for it. */
export const COPY_MUTANTS = [
  {
    name: "a copy is told of a policy when the node has shown it",
    rule: "Watch 13: a policy decides at a copy from the place at which it came into force",
    edits: [
      {
        file: "src/node/core/copies/copy-feed.ts",
        find: "    if (policy === this.#policy) return;",
        replace: "    if (policy === this.#policy || (this.#policy !== undefined && this.#rooms.switches.isBusy)) return;",
      },
    ],
    withinSeeds: 12,
    isCheap: true,
  },
  {
    name: "a copy shows a policy before all records follow it",
    rule: "Watch 13: a copy shows a policy when the node does",
    edits: [
      {
        file: "src/discovery/policy-switch-queue.ts",
        find: "for (const follower of this.followers) follower.begins(number);",
        replace: "for (const follower of this.followers) void follower.begins(number), follower.shows(number);",
      },
      {
        file: "src/discovery/policy-switch-queue.ts",
        find: "if (work.isShown && !wasShown) for (const follower of this.followers) follower.shows(number);",
        replace: "void [wasShown, number];",
      },
    ],
    withinSeeds: 6,
    isCheap: true,
  },
  {
    name: "a change of policy waits for no copy",
    rule: "Policy: what is acknowledged hides and shows at every copy",
    edits: [
      {
        file: "src/discovery/policy-switch-queue.ts",
        find: "[...this.followers].some(({ isShown }) => !isShown) : ",
        replace: "false : ",
      },
    ],
    withinSeeds: 12,
    isCheap: true,
  },
  {
    name: "a copy is not told of a load",
    rule: "Watch 13: a copy has the loads of the node's own entries",
    edits: [{ file: "src/node/core/copies/copy-feed.ts", find: "    this.#sendLoad(key, load);\n", replace: "" }],
    withinSeeds: 6,
    isCheap: true,
  },
  {
    name: "watches of a copy are not told to look again",
    rule: "Watch 12 and 13: what wakes all watches wakes those of copies",
    edits: [{ file: "src/node/core/copies/copy-feed.ts", find: "    this.#mark(MARK.ALL_WATCHES);\n", replace: "" }],
    withinSeeds: 60,
  },
  {
    name: "a copy is whole while a policy is put in force",
    rule: "Watch 13: a copy is not whole while a policy is being put in force",
    edits: [
      {
        file: "src/node/core/copies/copy-feed.ts",
        find: "this.#loads !== undefined || switches.isBusy;",
        replace: "this.#loads !== undefined;",
      },
    ],
    withinSeeds: 6,
    isCheap: true,
  },
];
