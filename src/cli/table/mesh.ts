/** The rows of the VERBS table for the mesh: its members, its leaders and the replication state. */
import { TICKET } from "./policy.ts";
import type { FlagSpec, VerbFunction, VerbSpec } from "./verb.ts";

/** The filters of `mesh peers list` and `mesh peers watch`. */
const PEER_FILTER: readonly FlagSpec[] = [
  {
    flags: "--status <status>",
    doc: "Only members with this status. Repeat the flag to accept several (default all, including members that left or failed recently).",
    isRepeatable: true,
    choices: ["alive", "suspect", "left", "dead"],
  },
  {
    flags: "--health <health>",
    doc: "Only members with this health: degraded members are alive but not ready or not healthy, unhealthy ones are suspect or dead.",
    isRepeatable: true,
    choices: ["healthy", "degraded", "unhealthy"],
  },
  {
    flags: "--desired <state>",
    doc: "Only members that operators want in this state.",
    isRepeatable: true,
    choices: ["active", "cordoned", "drained"],
  },
  { flags: "--cluster-id <id>", doc: "Only members of this cluster." },
  { flags: "--region <region>", doc: "Only members of this region." },
  { flags: "--zone <zone>", doc: "Only members of this zone." },
  { flags: "--role <role>", doc: "Only members with this role. Repeat the flag to accept several.", isRepeatable: true },
  { flags: "--software-version <version>", doc: "Only members with this software version." },
  { flags: "--label <selector>", doc: "Only members whose labels match, such as 'rack=7,env!=dev,tier in (a,b),!old'." },
];

const SCOPE_PREFIX: FlagSpec = {
  flags: "--scope <prefix>",
  doc: "Only this scope, or the scopes that begin with these parts, such as custom or custom/orders.",
};

const mesh = () => import("../verbs/mesh.ts");
const leaders = () => import("../verbs/leaders.ts");
const config = () => import("../verbs/mesh-config.ts");
const operations = () => import("../verbs/peer-operations.ts");

const FORCE: FlagSpec = {
  flags: "--force",
  doc: "Also if the node is the last ready node of its cluster. Requires the role mesh.admin.",
};

/** The row of an operation on a node, whose function has the name of the verb. */
function operationVerb(
  verb: "cordon" | "drain" | "forget" | "label" | "uncordon",
  { args = [], flags = [], ...spec }: Omit<VerbSpec, "load" | "path">,
): VerbSpec {
  return {
    path: `mesh peers ${verb}`,
    args: [{ name: "<node>", doc: "Id of the node, such as node-3." }, ...args],
    flags: [
      { flags: "--reason <text>", doc: "Why, for the audit log.", isRequired: true },
      TICKET,
      { flags: "--etag <etag>", doc: "Fail unless the record of the node has this etag (default the etag in the dry run)." },
      { flags: "--request-id <id>", doc: "A request with the same id is carried out only once (default random)." },
      { flags: "--dry-run", doc: "Show the effects of the operation without changing anything." },
      { flags: "--yes", doc: "Do not ask. Without a terminal, this flag or --dry-run is required." },
      ...flags,
    ],
    load: async (): Promise<VerbFunction> => (await operations())[verb],
    ...spec,
  };
}

/** `mesh peers get` and its synonym `mesh peers status`. */
function memberVerb(path: string): VerbSpec {
  return {
    path,
    summary: "Show a member of the mesh as the server sees it.",
    args: [{ name: "<node>", doc: "Id of the member, such as node-3." }],
    examples: [
      [`${path} node-3`, "show whether node-3 is alive and connected"],
      [`${path} node-3 -o wide`, "also show the nodes that reported it as failed"],
    ],
    load: async () => (await mesh()).get,
  };
}

export const MESH_VERBS: readonly VerbSpec[] = [
  {
    path: "status",
    summary: "Show the whole cluster: its problems first, and then the state of each node. Exits with 1 if there is a problem.",
    examples: [
      ["status", "show the problems of the cluster, with a runbook for each"],
      ["status -o wide", "also show the command that shows more about each problem"],
    ],
    load: async () => (await import("../verbs/status.ts")).status,
  },
  {
    path: "mesh peers list",
    summary: "List the members of the mesh, including the server, as the server sees them.",
    isDefault: true,
    flags: [
      ...PEER_FILTER,
      {
        flags: "--sort <value>",
        doc: "Order of the members (default node). rtt: nearest first. last-seen: longest ago first.",
        choices: ["node", "rtt", "zone", "version", "status", "last-seen"],
      },
    ],
    examples: [
      ["mesh peers list", "list every member and whether it is alive; the same as mesh peers"],
      ["mesh peers list --health degraded --health unhealthy -o wide", "list failing members, and the nodes that reported them"],
      ["mesh peers list --label rack=7 --desired cordoned --sort rtt", "list the cordoned nodes of a rack, nearest first"],
    ],
    load: async () => (await mesh()).list,
  },
  {
    path: "mesh peers watch",
    summary: "Print each member once, then every change.",
    flags: [...PEER_FILTER, { flags: "--until-current", doc: "Stop after each member has been printed once." }],
    examples: [
      ["mesh peers watch", "print joins, suspected failures and failures as the server learns of them"],
      ["mesh peers watch -o json", "print one JSON object per line"],
    ],
    load: async () => (await mesh()).watch,
  },
  memberVerb("mesh peers get"),
  memberVerb("mesh peers status"),
  {
    path: "mesh peers explain",
    summary: "Show the history of a member: which nodes reported it as failed, how they probed it, and the result.",
    args: [{ name: "<node>", doc: "Id of the member, such as node-3." }],
    examples: [["mesh peers explain node-3", "show why node-3 is considered dead"]],
    load: async () => (await mesh()).explain,
  },
  operationVerb("cordon", {
    summary: "Let a node accept nothing new. Its entries, leaders and shards stay. Requires the role mesh.operate.",
    flags: [FORCE],
    examples: [
      [
        'mesh peers cordon node-3 --reason "new disks" --ticket OPS-7',
        "show the entries, leaders and shards of node-3, ask, and cordon it",
      ],
      ['mesh peers cordon node-3 --reason "new disks" --dry-run', "only show the entries, leaders and shards of node-3"],
    ],
  }),
  operationVerb("uncordon", {
    summary: "Let a node accept everything again. A drain stops before its next step. Requires the role mesh.operate.",
    examples: [['mesh peers uncordon node-3 --reason "disks replaced" --yes', "take node-3 back into service without a question"]],
  }),
  operationVerb("drain", {
    summary: "Cordon a node, and move its entries, leaders, shards and watches to other nodes. Requires the role mesh.operate.",
    flags: [
      { flags: "--deadline <duration>", doc: "Time after which the drain is stuck (default 10m)." },
      {
        ...FORCE,
        doc: "Also if the node is the last ready node of its cluster, and end everything left after the deadline. Requires mesh.admin.",
      },
      { flags: "--watch", doc: "Print the progress until the node is drained. Exit with 1 if the drain is stuck or cancelled." },
    ],
    examples: [['mesh peers drain node-3 --reason "new disks" --watch', "drain node-3, and wait until it can be stopped"]],
  }),
  operationVerb("label", {
    summary: "Set and remove labels of a node. They have priority over the labels in its settings. Requires the role mesh.operate.",
    args: [{ name: "<labels...>", doc: "key=value sets a label, and key- removes it." }],
    examples: [['mesh peers label node-3 rack=7 old- --reason "moved" --yes', "set the label rack, and remove the label old"]],
  }),
  operationVerb("forget", {
    summary: "Drop the entries of a node that is dead or has left, on all nodes. Revokes no certificate. Requires the role mesh.admin.",
    examples: [['mesh peers forget node-9 --reason "host destroyed"', "remove node-9 for good"]],
  }),
  {
    path: "mesh leaders list",
    summary: "List the leaders that the server knows, and the scopes that had a leader before.",
    isDefault: true,
    flags: [SCOPE_PREFIX],
    examples: [
      ["mesh leaders list", "list every scope with its leader; the same as mesh leaders"],
      ["mesh leaders list --scope custom/orders", "list the scopes of the namespace orders"],
    ],
    load: async () => (await leaders()).list,
  },
  {
    path: "mesh leaders status",
    summary: "Show the leaders, and the state of the control store that elects them.",
    flags: [SCOPE_PREFIX, { flags: "--watch", doc: "Print each leader once, then every change. Reconnect after an interruption." }],
    examples: [
      ["mesh leaders status", "also show why the server cannot be a leader, if it cannot"],
      ["mesh leaders status --watch -o json", "print one JSON object per change"],
    ],
    load: async () => (await leaders()).status,
  },
  {
    path: "mesh leaders resign",
    summary: "Ask the leader of a scope to resign, so that another candidate is elected. Requires the role mesh.operate.",
    args: [{ name: "<scope>", doc: "Scope, such as global-control or custom/orders/cleaner." }],
    flags: [{ flags: "--reason <text>", doc: "Why the leader must resign, for the audit log.", isRequired: true }],
    examples: [['mesh leaders resign global-control --reason "host maintenance"', "elect another node as leader of the cluster"]],
    load: async () => (await leaders()).resign,
  },
  {
    path: "mesh leaders raise-store-epoch",
    summary:
      "After the control store was restored from a backup, make all earlier fences outdated. All leaders resign. Requires the role mesh.admin.",
    flags: [{ flags: "--reason <text>", doc: "Why the epoch is raised, for the audit log.", isRequired: true }],
    examples: [['mesh leaders raise-store-epoch --reason "restored from a backup"', "make all fences from before the restore invalid"]],
    load: async () => (await leaders()).raiseStoreEpoch,
  },
  {
    path: "mesh config show",
    summary: "Show the settings of the server, the origin of each, and the digest of the settings that all nodes should have in common.",
    isDefault: true,
    flags: [
      {
        flags: "--origin <origin>",
        doc: "Only settings whose value comes from this origin.",
        choices: ["default", "file", "environment", "flag", "non-default"],
      },
    ],
    examples: [
      ["mesh config show --origin non-default", "list the settings that differ from their defaults"],
      ["mesh config show -o wide", "also show which files SIGHUP reads again, and which settings differ between nodes"],
    ],
    load: async () => (await config()).show,
  },
  {
    path: "mesh config diff",
    summary: "Show the settings that differ between two nodes of the server's cluster. Both nodes are asked directly.",
    args: [
      { name: "<node>", doc: "Id of a node, such as node-1." },
      { name: "<other>", doc: "Id of the other node." },
    ],
    flags: [
      { flags: "--all-keys", doc: "Also compare ids, addresses, ports, files and other settings that naturally differ between nodes." },
    ],
    examples: [
      ["mesh config diff node-1 node-2", "list the settings that should be the same but are not; exit with 1 if there are any"],
      ["mesh config diff node-1 node-2 --all-keys", "compare all settings"],
    ],
    load: async () => (await config()).diff,
  },
  {
    path: "mesh config validate",
    summary: "Let the server check a settings file with the rules of its version. Nothing is applied.",
    args: [{ name: "<file>", doc: "Settings file, .toml or .json." }],
    examples: [["mesh config validate node.toml", "list all problems before the file is deployed to this version"]],
    load: async () => (await config()).validate,
  },
  {
    path: "discovery lag",
    summary: "Show how far the server is behind its sources, and whether it is ready. For a resolver, show the statistics of its cache.",
    flags: [
      { flags: "--links", doc: "Show one line per link instead of one per source node." },
      { flags: "--borders", doc: "Show one line per border: the summaries that other regions have not received yet." },
      { flags: "--sources", doc: "Show one line per cluster with summaries: its last update and its rejected summaries." },
    ],
    examples: [
      ["discovery lag", "compare the node's copy of each source node with the newest known revision"],
      ["discovery lag --links", "list the links, and show which have not caught up"],
      ["discovery lag --sources", "list the clusters, and show which are stale or exceed a limit"],
      ["discovery lag -o json", "print all data as JSON"],
    ],
    load: async () => (await mesh()).lag,
  },
];
