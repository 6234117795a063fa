/** The rows of the VERBS table for shards. */
import { NEWEST_FLAGS, REASON, TICKET } from "./policy.ts";
import type { ArgSpec, FlagSpec, VerbFunction, VerbSpec } from "./verb.ts";

const NAMESPACE: ArgSpec = { name: "<namespace>", doc: "Namespace of the shards, such as orders." };
const SHARD: ArgSpec = { name: "<shard>", doc: "Namespace and number of the shard, such as orders/12." };
const PLAN: ArgSpec = { name: "<plan>", doc: "Id of the plan, such as orders/41-1f0c9a3e." };
const ORIGIN_FLAGS: readonly FlagSpec[] = [REASON, TICKET];
const CHANGE_FLAGS: readonly FlagSpec[] = [{ flags: "--expect <epoch>", doc: "Fail unless the shards have this epoch." }, ...ORIGIN_FLAGS];
/** The end of the summaries of verbs that need a role. */
const BY_OPERATORS = "Requires the role mesh.operate, or owner: for the namespace.";

/** Returns a function that makes the row of a verb of `mesh shards`, whose function has its name. The default argument is the namespace. */
function verbsIn<N extends string>(load: () => Promise<Readonly<Record<N, VerbFunction>>>) {
  return (name: N, spec: Omit<VerbSpec, "load" | "path">): VerbSpec => ({
    path: `mesh shards ${name}`,
    load: async () => (await load())[name],
    args: [NAMESPACE],
    ...spec,
  });
}

const shard = verbsIn(() => import("../verbs/shards.ts"));
const plan = verbsIn(() => import("../verbs/rebalance.ts"));

export const SHARD_VERBS: readonly VerbSpec[] = [
  shard("apply", {
    args: [],
    summary: "Divide a namespace into shards, or change its settings. Requires the role mesh.admin, or owner: for the namespace.",
    flags: [
      {
        flags: "-f, --file <file>",
        doc: "YAML or JSON file with the namespace and the settings; - reads standard input.",
        isRequired: true,
      },
      ...CHANGE_FLAGS,
    ],
    examples: [["mesh shards apply -f orders.yaml", "create the shards of the namespace in orders.yaml, or change their settings"]],
  }),
  shard("list", {
    summary: "List shards with their owners.",
    isDefault: true,
    args: [{ name: "[namespace]", doc: "Only shards of this namespace (default all)." }],
    flags: [
      { flags: "--owner <instance>", doc: "Only shards of this owner." },
      {
        flags: "--status <status>",
        doc: "Only shards with this status. Repeat the flag to accept several.",
        isRepeatable: true,
        choices: ["active", "draining", "paused", "disabled", "unowned"],
      },
      { flags: "--text <text>", doc: "Only shards whose id, owner, next owner, hint, ticket or reason contains this text." },
      { flags: "--limit <count>", doc: "Maximum number of shards (default all)." },
    ],
    examples: [
      ["mesh shards list orders", "list the shards of the namespace orders; the same as mesh shards orders"],
      ["mesh shards list --status paused --status disabled", "list the shards that an operator has paused or disabled"],
      ["mesh shards list --status unowned", "list the shards that have no owner although they are not disabled"],
      ["mesh shards list orders --owner a -o wide", "list the shards of the owner a with their weights and hints"],
    ],
  }),
  shard("get", {
    summary: "Show one shard.",
    args: [SHARD],
    examples: [["mesh shards get orders/12", "show the owner of shard 12, and why it is the owner"]],
  }),
  shard("owner", {
    summary: "Show the shard of a key, and its owner.",
    args: [NAMESPACE, { name: "<key>", doc: "Key, such as the id of a customer." }],
    examples: [["mesh shards owner orders customer-7", "show which instance handles customer-7"]],
  }),
  shard("diff", {
    summary: "Show the shards that differ between two epochs.",
    flags: [
      { flags: "--from <epoch>", doc: "The earlier epoch.", isRequired: true },
      { flags: "--to <epoch>", doc: "The later epoch (default the newest)." },
    ],
    examples: [["mesh shards diff orders --from 41 --to 44", "show the owners before and after the changes 42 to 44"]],
  }),
  shard("history", {
    summary: "List the changes of the shards, newest first.",
    flags: NEWEST_FLAGS,
    examples: [["mesh shards history orders", "show when shards moved, and why"]],
  }),
  shard("watch", {
    summary: "Print each shard once, then every change. Reconnect after an interruption.",
    examples: [["mesh shards watch orders", "print moves as the server learns of them"]],
  }),
  shard("set", {
    summary: "Change the status, the weight or the locality hint of a shard. Requires the role mesh.admin, or owner: for the namespace.",
    args: [SHARD],
    flags: [
      { flags: "--status <status>", doc: "New status.", choices: ["active", "paused", "disabled"] },
      { flags: "--weight <weight>", doc: "New weight: how many shards of weight 1 the shard counts as." },
      { flags: "--hint <place>", doc: "New locality hint: region or region/zone; empty for none.", mayBeEmpty: true },
      ...CHANGE_FLAGS,
    ],
    examples: [
      ["mesh shards set orders/12 --status paused --reason 'repair of the index'", "let the owner finish its work without new work"],
      ["mesh shards set orders/12 --hint eu/eu-1a", "prefer owners in the zone eu-1a of the region eu"],
    ],
  }),
  shard("delete", {
    summary: "Remove the shards of a namespace, which must have no owners. Requires the role mesh.admin, or owner: for the namespace.",
    flags: CHANGE_FLAGS,
    examples: [["mesh shards delete orders --reason 'wrong count'", "remove the shards, for example to create another number of them"]],
  }),
  shard("simulate", {
    summary: "Show which shards would move with other owners or with another strategy. Nothing is changed.",
    flags: [
      { flags: "--strategy <strategy>", doc: "Another strategy.", choices: ["rendezvous", "ring", "locality"] },
      {
        flags: "--add <owner>",
        doc: "Add an owner, or change one: instance, or instance:weight=2,zone=a,region=b,slots=100. Repeat the flag for several.",
        isRepeatable: true,
      },
      { flags: "--remove <instance>", doc: "Remove an owner. Repeat the flag for several.", isRepeatable: true },
    ],
    examples: [["mesh shards simulate orders --strategy rendezvous --add d:weight=2", "show which shards a new owner d would receive"]],
  }),
  plan("rebalance", {
    summary: `Propose a plan of the moves that balance the shards. ${BY_OPERATORS}`,
    flags: [
      { flags: "--dry-run", doc: "Show the plan without making it." },
      { flags: "--force", doc: "Let the plan move more than 10 % of the shards." },
      ...ORIGIN_FLAGS,
    ],
    examples: [
      ["mesh shards rebalance orders --dry-run", "show which shards would move now"],
      ["mesh shards rebalance orders --reason 'new owner'", "make a plan; if the settings require it, another operator must approve it"],
    ],
  }),
  plan("plans", {
    summary: `List the newest 20 plans of a namespace, and show whether it is frozen. ${BY_OPERATORS}`,
    examples: [["mesh shards plans orders", "show the plan that waits for approval or moves shards, and earlier plans"]],
  }),
  plan("approve", {
    summary: `Start a plan that waits for approval. ${BY_OPERATORS}`,
    args: [PLAN],
    flags: [
      { flags: "--checksum <checksum>", doc: "Checksum of the plan (default: read the plan and print its moves before it is approved)." },
      REASON,
    ],
    examples: [["mesh shards approve orders/41-1f0c9a3e", "print the moves of the plan and start them"]],
  }),
  plan("cancel", {
    summary: `End a plan before its next move. ${BY_OPERATORS}`,
    args: [PLAN],
    flags: [REASON],
    examples: [
      ["mesh shards cancel orders/41-1f0c9a3e --reason 'too many errors'", "let the moves that have begun finish, and start no more"],
    ],
  }),
  plan("freeze", {
    summary: `Move no shards for some time, unless their owner ends. ${BY_OPERATORS}`,
    flags: [{ flags: "--for <duration>", doc: "Time from now, at most 7d; 0 ends an earlier freeze.", isRequired: true }, ...ORIGIN_FLAGS],
    examples: [
      ["mesh shards freeze orders --for 1h --reason 'database upgrade'", "keep the shards with their owners for an hour"],
      ["mesh shards freeze orders --for 0", "let shards move again"],
    ],
  }),
];
