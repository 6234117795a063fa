/** Policy files and the verification of audit logs, on behalf of the command line, which cannot import the policy room. */
import type { ChainReading, Environment, PolicyReading } from "../cli/environment.ts";
import { readDocuments } from "../lib/formats/documents.ts";
import { verifyLines } from "../policy/audit/line.ts";
import { decodePolicySet, encodePolicySet } from "../policy/set/codec.ts";
import { formatPolicyFile, readPolicyFile } from "../policy/set/file.ts";

/** Reads a policy file in the same way as a node would read it now. */
export function readPolicy(text: string): PolicyReading {
  const { set, problems } = readPolicyFile(text, { nowWallMs: Date.now() });
  // Used only if the server reports a fault that cannot be found from the file alone, so the text is not parsed again before that.
  const lineOf = (path: string): number => {
    const steps = path.split(/[.[\]]+/).filter((step) => step !== "");
    return readDocuments(text).places[0]?.line(steps.map((step) => (/^\d+$/.test(step) ? Number(step) : step))) ?? 0;
  };
  return { policy: set && encodePolicySet(set, 0), problems, lineOf };
}

/** Returns a policy set as a file that `readPolicy` accepts. */
export function writePolicy(policy: Parameters<Environment["writePolicy"]>[0], format: "yaml" | "json"): string {
  return formatPolicyFile(decodePolicySet(policy), format);
}

/** Verifies the hash chain of an audit log in JSON lines format. */
export function verifyAudit(text: string): ChainReading {
  return verifyLines(text);
}
