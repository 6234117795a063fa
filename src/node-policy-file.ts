/** The policy file that settings name: read, bounded and checked before anything is done with it. */
import { open } from "node:fs/promises";
import { MAX_FILE_CHARS, readPolicyFile } from "./policy/policy-file.ts";
import { canonicalText, checksumOf } from "./policy/policy-text.ts";
import type { FileText } from "./services/policy-keeper.ts";

/** Reads a policy file and what it says. Never rejects: what is wrong with it is a fault in one line. */
export async function readFileText(path: string): Promise<FileText> {
  let text: string;
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    // UTF-8 has at least as many bytes as characters that it could stand for.
    if (size > MAX_FILE_CHARS) return { ok: false, fault: `has ${size} bytes, more than ${MAX_FILE_CHARS}` };
    text = await file.readFile("utf8");
  } catch (error) {
    return { ok: false, fault: error instanceof Error ? error.message : String(error) };
  }
  const { set, problems } = readPolicyFile(text);
  if (set !== undefined) return { ok: true, set, checksum: checksumOf(canonicalText(set)) };
  const [first] = problems.filter(({ severity }) => severity === "error");
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more problems)` : "";
  return { ok: false, fault: `line ${first?.line}: ${first?.path === "" ? "" : `${first?.path}: `}${first?.message}${more}` };
}
