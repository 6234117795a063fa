/** The rows of the VERBS table for the mesh: its members and the replication state. */
import type { FlagSpec, VerbSpec } from "./verb.ts";

const WHERE: readonly FlagSpec[] = [
  { flags: "--cluster-id <id>", doc: "Only members of this cluster." },
  { flags: "--region <region>", doc: "Only members of this region." },
];

const mesh = () => import("../verbs/mesh.ts");

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
      {
        flags: "--status <status>",
        doc: "Only members with this status. Repeat the flag to accept several (default all, including members that left or failed recently).",
        isRepeatable: true,
        choices: ["alive", "suspect", "left", "dead"],
      },
      ...WHERE,
    ],
    examples: [
      ["mesh peers list", "list every member and whether it is alive; the same as mesh peers"],
      ["mesh peers list --status suspect --status dead -o wide", "list failing members, and the nodes that reported them"],
    ],
    load: async () => (await mesh()).list,
  },
  {
    path: "mesh peers watch",
    summary: "Print each member once, then every change.",
    flags: [...WHERE, { flags: "--until-current", doc: "Stop after each member has been printed once." }],
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
