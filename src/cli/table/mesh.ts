/** The rows of the VERBS table about the mesh: its members, and the state of replication. */
import type { FlagSpec, VerbSpec } from "./verb.ts";

const WHERE: readonly FlagSpec[] = [
  { flags: "--cluster-id <id>", doc: "Only this cluster." },
  { flags: "--region <region>", doc: "Only this region." },
];

const mesh = () => import("../verbs/mesh.ts");

/** `mesh peers get` and its synonym `mesh peers status`. */
function memberVerb(path: string): VerbSpec {
  return {
    path,
    summary: "One member of the mesh as the serving node knows it.",
    args: [{ name: "<node>", doc: "Node id." }],
    examples: [
      [`${path} node-3`, "show whether node-3 is alive and linked"],
      [`${path} node-3 -o wide`, "include the nodes that accused it"],
    ],
    load: async () => (await mesh()).get,
  };
}

export const MESH_VERBS: readonly VerbSpec[] = [
  {
    path: "mesh peers list",
    summary: "The members of the mesh as the serving node knows them, itself included.",
    isDefault: true,
    flags: [
      {
        flags: "--status <status>",
        doc: "Any of these (default all, with members that left or died lately).",
        isRepeatable: true,
        choices: ["alive", "suspect", "left", "dead"],
      },
      ...WHERE,
    ],
    examples: [
      ["mesh peers list", "every member and whether it is alive; mesh peers does the same"],
      ["mesh peers list --status suspect --status dead -o wide", "members in trouble, and who accused them"],
    ],
    load: async () => (await mesh()).list,
  },
  {
    path: "mesh peers watch",
    summary: "Follow the members: each one once, then every change.",
    flags: [...WHERE, { flags: "--until-current", doc: "Stop after every member was shown once." }],
    examples: [
      ["mesh peers watch", "joins, suspicions and deaths as they are known to the serving node"],
      ["mesh peers watch -o json", "one JSON object a line"],
    ],
    load: async () => (await mesh()).watch,
  },
  memberVerb("mesh peers get"),
  memberVerb("mesh peers status"),
  {
    path: "mesh peers explain",
    summary: "What happened to a member: who accused it, by which path, and the result.",
    args: [{ name: "<node>", doc: "Node id." }],
    examples: [["mesh peers explain node-3", "why node-3 is considered dead"]],
    load: async () => (await mesh()).explain,
  },
  {
    path: "discovery lag",
    summary:
      "How far the serving node is behind: by origin, by link, or with summaries, and whether it is ready. Of a resolver: the statistics of its cache.",
    flags: [
      { flags: "--links", doc: "One line for each link instead of each origin." },
      { flags: "--borders", doc: "One line for each border: what other regions have not taken yet." },
      { flags: "--sources", doc: "One line for each cluster of which there are summaries: when it was last heard, and what was refused." },
    ],
    examples: [
      ["discovery lag", "what the node holds of each origin, and what is known to exist"],
      ["discovery lag --links", "the links, and those that have not caught up"],
      ["discovery lag --sources", "which clusters are stale, and which have no room"],
      ["discovery lag -o json", "all of it, for a program"],
    ],
    load: async () => (await mesh()).lag,
  },
];
