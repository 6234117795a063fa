/** The rows of the VERBS table about the keys with which clusters sign what they say to other regions. */
import type { VerbSpec } from "./verb.ts";

const keys = () => import("../verbs/summary-keys.ts");

export const SUMMARY_VERBS: readonly VerbSpec[] = [
  {
    path: "summary keys list",
    summary: "The signing keys of clusters that the serving node trusts, and which one it signs with.",
    isDefault: true,
    flags: [{ flags: "--cluster-id <id>", doc: "Only this cluster." }],
    examples: [
      ["summary keys list", "of each cluster its keys, from the settings or announced, and whether they count; summary keys does the same"],
      ["summary keys list --cluster-id eu1 -o wide", "with the public keys, as settings take them"],
    ],
    load: async () => (await keys()).list,
  },
  {
    path: "summary keys announce",
    isAlone: true,
    summary: "Let the signing key of a cluster announce its next one. Prints a block for the key files, and asks no server.",
    flags: [
      { flags: "--cluster-id <id>", doc: "The cluster that signs with both keys.", isRequired: true },
      { flags: "--key-file <file>", doc: "The key that others trust: summary.signing_key_file of the nodes that sign.", isRequired: true },
      { flags: "--new-key-file <file>", doc: "The next key.", isRequired: true },
      {
        flags: "--for <duration>",
        doc: "How long the new key counts by this, such as 30d. By then others must have it in their settings.",
        isRequired: true,
      },
    ],
    examples: [
      [
        "summary keys announce --cluster-id eu1 --key-file eu1.key --new-key-file eu1-2.key --for 30d > block.pem",
        "the block that goes into both key files; what to do next is said on stderr",
      ],
    ],
    load: async () => (await keys()).announce,
  },
];
