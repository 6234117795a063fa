/** The rows of the VERBS table for the mesh: its members, its leaders and the replication state. */
import type { FlagSpec, VerbSpec } from "./verb.ts";

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
