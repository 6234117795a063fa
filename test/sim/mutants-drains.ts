/** Planted bugs of operations on nodes (semantics.md, Operators and nodes). */
const DRAIN = "src/control/peers/drain.ts";
const PEERS = "src/control/peers/peers.ts";

export const DRAIN_MUTANTS = [
  {
    name: "an entry ends before the newer one is seen",
    rule: "Operators and nodes: the entry of a lease ends on a draining node when a newer one of another node is seen",
    edits: [
      {
        file: "src/discovery/registrar/hand-over.ts",
        find: "      if (this.#hasMoved(stored)) entryRemovals.handedOver(stored);",
        replace: "      if (stored.seq > 0) entryRemovals.handedOver(stored);",
      },
    ],
    withinSeeds: 20,
    isOfDrains: true,
    isCheap: true,
  },
  {
    name: "an entry ends before other nodes have the newer one",
    rule: "Operators and nodes: the entry of a lease ends on a draining node when its linked peers have the newer one",
    edits: [
      {
        file: "src/discovery/registrar/hand-over.ts",
        find: "isNew(stored) && this.arePeersAt(stored.origin.id, stored.seq)",
        replace: "isNew(stored)",
      },
    ],
    withinSeeds: 20,
    isOfDrains: true,
    isCheap: true,
  },
  {
    name: "two operators take out the last two nodes",
    rule: "Operators and nodes: changes that take nodes out of service have the condition of the guard",
    edits: [
      {
        file: PEERS,
        find: "      conditions.push({ key: PEER_GUARD,",
        replace: "      if (isDryRun) conditions.push({ key: PEER_GUARD,",
      },
    ],
    withinSeeds: 60,
    isOfDrains: true,
    isCheap: true,
  },
  {
    name: "a cancelled drain undoes nothing",
    rule: "Operators and nodes: a node that is active again undoes the steps of its drain",
    edits: [
      {
        file: DRAIN,
        find: "      for (const task of this.#tasks.slice(0, begunCount).toReversed()) task.cancel(time);\n",
        replace: "      if (begunCount < 0) return;\n",
      },
    ],
    withinSeeds: 20,
    isOfDrains: true,
    isCheap: true,
  },
  {
    name: "a late drain drops entries",
    rule: "Operators and nodes: a late drain ends nothing unless it is forced",
    edits: [
      { file: DRAIN, find: "      if (isLate && this.#terms.isForced) task.end(time);", replace: "      if (isLate) task.end(time);" },
    ],
    withinSeeds: 20,
    isOfDrains: true,
    isCheap: true,
  },
  {
    name: "a node is forgotten on one node only",
    rule: "Operators and nodes: each node forgets a node on its record",
    edits: [
      {
        file: PEERS,
        find: "        for (const { key } of this.#copy.take(input.changes, time.monoMs)?.changes ?? []) this.#note(key);",
        replace:
          "        for (const { key, after } of this.#copy.take(input.changes, time.monoMs)?.changes ?? []) if (after?.value?.isForgotten !== true) this.#note(key);",
      },
    ],
    withinSeeds: 20,
    isOfDrains: true,
    isCheap: true,
  },
  {
    name: "an operation is answered before it is on record",
    rule: "Operators and nodes: each operation is on record before it is answered",
    edits: [
      {
        file: "src/services/peers/operations.ts",
        find: "  await audit(parts, asked, context, outcome);",
        replace: "  void audit(parts, asked, context, outcome).catch(() => {});",
      },
    ],
    withinSeeds: 20,
    isOfAudits: true,
    isCheap: true,
  },
] as const;
