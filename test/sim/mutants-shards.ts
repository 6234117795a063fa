/** Planted bugs of shards (semantics.md, Shards). */
const CONTROLLER = "src/control/shards/controller.ts";
const LOOK = "src/control/shards/set-look.ts";
const REBALANCING = "src/control/shards/rebalancing.ts";
const OWNERS = "src/control/shards/owners.ts";

export const SHARD_MUTANTS = [
  {
    name: "a shard is held without the version of its row",
    rule: "Shards: a node lists a shard as held on the condition of the row's version",
    edits: [
      {
        file: OWNERS,
        find: "    for (const row of taken) conditions.push({ key: rowKey(attachment.namespace, row.id), version: row.version });\n",
        replace: "",
      },
    ],
    withinSeeds: 600,
    isOfShards: true,
  },
  {
    name: "the next owner follows without the version of the earlier owner's record",
    rule: "Shards: a row changes its owner on the condition of a record of the earlier owner that does not list the shard",
    edits: [{ file: CONTROLLER, find: "...change.conditions, ...free]", replace: "...change.conditions]" }],
    withinSeeds: 600,
    isOfShards: true,
  },
  {
    name: "a deposed controller changes rows",
    rule: "Shards: each change of the controller has the condition of its lease record",
    edits: [{ file: CONTROLLER, find: "requests.transact([lease, ...conditions]", replace: "requests.transact([...conditions]" }],
    withinSeeds: 600,
    isOfShards: true,
  },
  {
    name: "a suspected owner loses its shards",
    rule: "Shards: suspicion and health never end the ownership of a shard",
    edits: [
      {
        file: LOOK,
        find: "return item.value.held.has(row.id) ?",
        replace: "return item.value.held.has(row.id) && time.monoMs < item.sinceMs + 3000 ?",
      },
    ],
    withinSeeds: 100,
    isOfShards: true,
    isCheap: true,
  },
  {
    name: "a fence of an earlier attachment is used again",
    rule: "Shards: a shard that was dropped is never held again under that fence",
    edits: [{ file: OWNERS, find: " && row.fence.number > created;", replace: " && created > 0;" }],
    withinSeeds: 600,
    isOfShards: true,
  },
  {
    name: "the cooldown is forgotten",
    rule: "Shards: no shard moves twice within the cooldown",
    edits: [
      { file: REBALANCING, find: "wallMs >= movedWallMs + cooldownMs &&", replace: "wallMs >= movedWallMs + cooldownMs - cooldownMs &&" },
    ],
    withinSeeds: 100,
    isOfShards: true,
    isCheap: true,
  },
] as const;
