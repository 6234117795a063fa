/** The rows of the VERBS table for the keys with which clusters sign summaries. */
import type { VerbSpec } from "./verb.ts";

const keys = () => import("../verbs/summary-keys.ts");

export const SUMMARY_VERBS: readonly VerbSpec[] = [
  {
    path: "summary keys list",
    summary: "List the signing keys that the server trusts, and the key that it signs with.",
    isDefault: true,
    flags: [{ flags: "--cluster-id <id>", doc: "Only keys of this cluster." }],
    examples: [
      ["summary keys list", "list the configured and announced keys of each cluster, and whether they are valid; the same as summary keys"],
      ["summary keys list --cluster-id eu1 -o wide", "also print the public keys in the form that settings use"],
    ],
    load: async () => (await keys()).list,
  },
  {
    path: "summary keys announce",
    isAlone: true,
    summary: "Sign the announcement of a cluster's next signing key, and print the block for the key files. Needs no server.",
    flags: [
      { flags: "--cluster-id <id>", doc: "Cluster that signs with both keys.", isRequired: true },
      {
        flags: "--key-file <file>",
        doc: "File with the current key, which other clusters trust (summary.signing_key_file of the signing nodes).",
        isRequired: true,
      },
      { flags: "--new-key-file <file>", doc: "File with the next key.", isRequired: true },
      {
        flags: "--for <duration>",
        doc: "How long the announcement is valid, such as 30d. Other clusters must have the new key in their settings by then.",
        isRequired: true,
      },
    ],
    examples: [
      [
        "summary keys announce --cluster-id eu1 --key-file eu1.key --new-key-file eu1-2.key --for 30d > block.pem",
        "write the block for both key files to block.pem, and print the next steps on stderr",
      ],
    ],
    load: async () => (await keys()).announce,
  },
];
