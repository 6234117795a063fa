/** The rows of the VERBS table about the mesh: who is in it, and how far replication is. */
import type { FlagSpec, VerbSpec } from "./verb.ts";

const WHERE: readonly FlagSpec[] = [
  { flags: "--cluster-id <id>", doc: "Only this cluster." },
  { flags: "--region <region>", doc: "Only this region." },
];

const mesh = () => import("../verbs/mesh.ts");

export const MESH_VERBS: readonly VerbSpec[] = [
  {
    path: "mesh peers list",
    summary: "The members of the mesh as the serving node knows them, itself included.",
    isDefault: true,
    flags: [
      {
        flags: "--status <status>",
        doc: "Any of these (default all, those that left or died lately too).",
        isRepeatable: true,
        choices: ["alive", "suspect", "left", "dead"],
      },
      ...WHERE,
    ],
    examples: [
      ["mesh peers list", "every member and whether it is alive; mesh peers does the same"],
      ["mesh peers list --status suspect --status dead -o wide", "who is in trouble, and who accused them"],
    ],
    load: async () => (await mesh()).list,
  },
  {
    path: "mesh peers watch",
    summary: "Follow the members: each once, then those that change.",
    flags: [...WHERE, { flags: "--until-current", doc: "Stop when every member was told once." }],
    examples: [
      ["mesh peers watch", "joins, suspicions and deaths as they are known to the serving node"],
      ["mesh peers watch -o json", "one JSON object a line"],
    ],
    load: async () => (await mesh()).watch,
  },
  {
    path: "mesh peers explain",
    summary: "What happened to a member: who accused it, by which path, and what became of it.",
    args: [{ name: "<node>", doc: "Node id." }],
    examples: [["mesh peers explain node-3", "why node-3 is taken for dead"]],
    load: async () => (await mesh()).explain,
  },
  {
    path: "discovery lag",
    summary: "How far the serving node is behind: by origin, or by link, and whether it is ready.",
    flags: [{ flags: "--links", doc: "A line a link instead of a line an origin." }],
    examples: [
      ["discovery lag", "what is held of each origin, and what is known to exist"],
      ["discovery lag --links", "the links, and which of them has not caught up"],
      ["discovery lag -o json", "both, for a program"],
    ],
    load: async () => (await mesh()).lag,
  },
];
