/** Reads the policy file that the settings name, with limits on its size, and checks it before use. */

import { POLICY_BOUNDS } from "../lib/bounds.ts";
import { readBounded } from "../lib/named-file.io.ts";
import { checksumOf } from "../policy/set/rules.ts";
import type { FileText } from "../policy/versions/policy-file.ts";

/** Reads a policy file. Never rejects: if the file is invalid, its fault is returned as one line. */
export async function readFileText(path: string): Promise<FileText> {
  // Loaded only here, because the YAML parser takes 20 ms to load and most nodes do not have a policy file.
  const { readPolicyFile } = await import("../policy/set/file.ts");
  const read = readBounded(path, POLICY_BOUNDS.maxFileBytes);
  if (read.bytes === undefined) return { ok: false, fault: read.fault };
  const { set, problems } = readPolicyFile(read.bytes.toString("utf8"));
  if (set !== undefined) return { ok: true, set, checksum: checksumOf(set) };
  const [first] = problems.filter(({ severity }) => severity === "error");
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : "";
  return { ok: false, fault: `line ${first?.line}: ${first?.path === "" ? "" : `${first?.path}: `}${first?.message}${more}` };
}
