/** Settings of who this node is: the group `node` of SETTINGS in settings.ts, which is where to look first. */

import { factsBytes, NODE_BOUNDS } from "../lib/bounds/node.ts";
import { list, ms, optionalText, pairs, text } from "./field.ts";

const ID = { pattern: /^[A-Za-z0-9._:/@+-]{1,64}$/, what: "1 to 64 of A-Z a-z 0-9 . _ : / @ + -" } as const;
const LABELS = {
  maxItems: NODE_BOUNDS.maxLabels,
  name: /^[A-Za-z0-9._:/@+-]{1,63}$/,
  nameWhat: "1 to 63 of A-Z a-z 0-9 . _ : / @ + -",
  maxValueLength: NODE_BOUNDS.maxLabelValueLength,
} as const;

/** As many as an entry has at most by default. */
const MAX_RESOURCES = 64;

export const NODE_SETTINGS = {
  id: optionalText({
    ...ID,
    flag: "--node-id <id>",
    doc: "Id of this node; a random one is made and kept in the data directory when absent.",
  }),
  name: optionalText({
    pattern: /^.{1,128}$/,
    what: "1 to 128 characters",
    doc: "Name for people: in the NODE entry of ClusterMap, as the metadata `waymark.node.name`.",
  }),
  clusterId: text({ ...ID, default: "local", flag: "--cluster-id <id>", doc: "Cluster this node belongs to." }),
  region: text({ ...ID, default: "local", flag: "--region <name>", doc: "Region of this node." }),
  zone: text({ ...ID, default: "local", flag: "--zone <name>", doc: "Locality inside the region; entries that name no zone get it." }),
  resources: list({
    pattern: /^[A-Za-z0-9._:/@+-]{1,128}$/,
    what: "1 to 128 of A-Z a-z 0-9 . _ : / @ + -",
    maxItems: MAX_RESOURCES,
    default: [],
    doc: "What this node has, for example gpu; at most 64. ClusterMap filters by them.",
  }),
  roles: list({ ...ID, maxItems: NODE_BOUNDS.maxRoles, default: [], doc: "Roles this node announces; at most 16." }),
  labels: pairs({
    ...LABELS,
    default: {},
    doc: "Free labels this node announces; at most 64, with values of at most 256 characters, and 8 KiB together with the roles.",
  }),
  stopTimeoutMs: ms({ default: 10_000, min: 0, max: 600_000, doc: "How long a stop waits for open calls." }),
} as const;

/** What is wrong with roles and labels together; undefined: nothing. */
export function nodeFactsProblem(node: {
  readonly roles: readonly string[];
  readonly labels: Readonly<Record<string, string>>;
}): string | undefined {
  const sizeBytes = factsBytes(node.roles, node.labels);
  if (sizeBytes <= NODE_BOUNDS.maxFactsBytes) return undefined;
  return `has ${sizeBytes} bytes together with node.roles, more than ${NODE_BOUNDS.maxFactsBytes}, the most allowed`;
}
