/** Compares the protos with the main branch and with the newest release: programs that speak the published contract must go on working. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { run } from "./run.ts";

/** What buf.yaml says since the contract is settled. Nothing before was released. */
const SETTLED = "# The contract is settled.";

/** Where the published contract may be found; a name that does not exist is skipped. */
async function baselines(): Promise<ReadonlyMap<string, string>> {
  const newestTag = (await run("git", ["describe", "--tags", "--abbrev=0", "--match", "v*"])).output.trim();
  const commits = new Map<string, string>();
  for (const name of ["main", "origin/main", newestTag]) {
    const found = name === "" ? { code: 1, output: "" } : await run("git", ["rev-parse", "--verify", "--quiet", `${name}^{commit}`]);
    if (found.code === 0) commits.set(found.output.trim(), name);
  }
  return commits;
}

/** What a commit's protos break; undefined when that commit has no contract to compare with. */
async function compare(commit: string): Promise<{ readonly ok: boolean; readonly output: string } | undefined> {
  const files = (await run("git", ["ls-tree", "-r", "--name-only", commit, "--", "buf.yaml", "proto"])).output;
  if (!files.includes("buf.yaml") || !files.includes(".proto")) return undefined;
  if (!(await run("git", ["show", `${commit}:buf.yaml`])).output.includes(SETTLED)) return undefined;
  const folder = mkdtempSync(join(tmpdir(), "waymark-breaking-"));
  try {
    const archive = join(folder, "contract.tar");
    const wanted = ["buf.yaml", "proto", ...(await hasThirdParty(commit))];
    await run("git", ["archive", "--format=tar", "-o", archive, commit, "--", ...wanted]);
    await run("tar", ["-xf", archive, "-C", folder]);
    const { code, output } = await run("buf", ["breaking", "--against", folder]);
    return { ok: code === 0, output };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function hasThirdParty(commit: string): Promise<readonly string[]> {
  const { output } = await run("git", ["ls-tree", "--name-only", commit, "--", "third_party"]);
  return output.trim() === "" ? [] : ["third_party"];
}

let broken = false;
let compared = 0;
for (const [commit, name] of await baselines()) {
  const result = await compare(commit);
  if (result === undefined) continue;
  compared += 1;
  if (!result.ok) {
    broken = true;
    console.log(`the protos break what ${name} (${commit.slice(0, 10)}) promised:\n${result.output.trimEnd()}`);
  }
}
if (!broken) console.log(compared === 0 ? "no earlier contract to compare with" : `compatible with ${compared} earlier contract(s)`);
process.exitCode = broken ? 1 : 0;
