/** Settings of the policy: the group `policy` of SETTINGS in settings.ts, which is where to look first. */
import { list, optionalText } from "./field.ts";

export const POLICY_SETTINGS = {
  acceptFrom: list({
    pattern: /^[A-Za-z0-9._:/@+-]{1,64}$/,
    what: "1 to 64 of A-Z a-z 0-9 . _ : / @ + -",
    default: [],
    doc: "Clusters beside this node's own whose policy is put in force here, and with it what they took from others; up to 256.",
  }),
  file: optionalText({
    pattern: /^[^\0]{1,4096}$/,
    what: "a file path",
    flag: "--policy <file>",
    doc: "Policy file (YAML or JSON), applied at start and on SIGHUP when it says something else than it said last time.",
  }),
} as const;
