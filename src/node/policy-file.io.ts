/** The policy file that settings name: read, bounded and checked before anything is done with it. */

import { POLICY_BOUNDS } from "../lib/bounds.ts";
import { readBounded } from "../lib/named-file.io.ts";
import { readPolicyFile } from "../policy/set/file.ts";
import { checksumOf } from "../policy/set/rules.ts";
import type { FileText } from "../policy/versions/policy-file.ts";

/** Reads a policy file and what it says. Never throws: what is wrong with it is a fault in one line. */
export function readFileText(path: string): FileText {
  const read = readBounded(path, POLICY_BOUNDS.maxFileBytes);
  if (read.bytes === undefined) return { ok: false, fault: read.fault };
  const { set, problems } = readPolicyFile(read.bytes.toString("utf8"));
  if (set !== undefined) return { ok: true, set, checksum: checksumOf(set) };
  const [first] = problems.filter(({ severity }) => severity === "error");
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more problems)` : "";
  return { ok: false, fault: `line ${first?.line}: ${first?.path === "" ? "" : `${first?.path}: `}${first?.message}${more}` };
}
