/** Policy files as the command line sees them: reading one, and telling what is wrong with it and where. */
import { Severity, type Stage } from "../../gen/waymark/policy/v1/policy_pb.js";
import { POLICY_BOUNDS } from "../lib/bounds/policy.ts";
import type { Environment, PolicyProblem, PolicyReading } from "./environment.ts";
import { readInput } from "./input.ts";
import type { Output } from "./output.ts";

/** Reads a policy file named on the command line. */
export async function readPolicyFile(environment: Environment, file: string): Promise<PolicyReading> {
  return environment.readPolicy(await readInput(environment, file, POLICY_BOUNDS.maxFileBytes));
}

/** Where a version is applied first, for people; empty when everywhere. */
export function stageWords(stage: Stage | undefined): string {
  if (stage === undefined) return "";
  const { by } = stage;
  switch (by.case) {
    case "percent":
      return `${by.value} % of nodes`;
    case "clusters":
      return by.value.clusterIds.join(", ");
    case undefined:
      return "";
  }
}

/** A problem as a server tells it, with its line in the file; a severity that is not known is an error. */
export function problemOf(
  told: { readonly path: string; readonly line: number; readonly severity: Severity; readonly message: string },
  reading: PolicyReading,
): PolicyProblem {
  const { path, line, severity, message } = told;
  return { path, line: line > 0 ? line : reading.lineOf(path), severity: severity === Severity.WARNING ? "warning" : "error", message };
}

/** Problems as protobuf has them in JSON. */
export function problemsJson(problems: readonly PolicyProblem[]) {
  return problems.map((problem) => ({ ...problem, severity: `SEVERITY_${problem.severity.toUpperCase()}` }));
}

/** Both lists as one, by line; what both say is said once. */
export function mergeProblems(mine: readonly PolicyProblem[], theirs: readonly PolicyProblem[]): readonly PolicyProblem[] {
  const nameOf = ({ path, severity, message }: PolicyProblem): string => [path, severity, message].join("\0");
  const known = new Set(mine.map(nameOf));
  return [...mine, ...theirs.filter((problem) => !known.has(nameOf(problem)))].toSorted((a, b) => a.line - b.line);
}

export function hasErrors(problems: readonly PolicyProblem[]): boolean {
  return problems.some(({ severity }) => severity === "error");
}

/** One line each on stderr: `policy.yaml:12: rules[3].owners[0]: …`. */
export function tellProblems(file: string, problems: readonly PolicyProblem[], out: Output): void {
  for (const { path, line, severity, message } of problems) {
    const text = [line > 0 ? `${file}:${line}` : file, ...(path === "" ? [] : [path]), message].join(": ");
    if (severity === "error") out.error(text);
    else out.note(`warning: ${text}`);
  }
}
