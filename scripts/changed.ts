/** What the working folder changes, and which tests a tier leaves out because of that. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ROOT, run } from "./run.ts";

/** So far back a gate that saves work trusts earlier runs. */
const COMMITS = 50;

/** What hostile clients, disks, clients in other languages and other DNS servers meet. If one of these differs, the gate of CI also runs the tests with the tag `path`. */
const PATHS = ["src/dns/", "src/grpc/", "src/server/edge/", "src/store/", "proto/"];

/** The files that differ from a commit, by default from 50 commits ago. Undefined if the clone does not have that commit: then nothing is known. */
export async function changedFiles(since = `HEAD~${COMMITS}`): Promise<readonly string[] | undefined> {
  const { code, output } = await run("git", ["diff", "--name-only", since]);
  return code === 0 ? output.split("\n").filter((line) => line !== "") : undefined;
}

/** Tags of the tests that the gate leaves out when these files differ; undefined says that nothing is known of them. */
export function gateLeaves(changed: readonly string[] | undefined): readonly string[] {
  const differs = changed === undefined || changed.some((file) => PATHS.some((path) => file.startsWith(path)));
  return differs ? ["night"] : ["night", "path"];
}

/** The arguments of vitest that leave out the tests with these tags. */
export function tagsFilter(leaves: readonly string[]): readonly string[] {
  return leaves.length === 0 ? [] : ["--tags-filter", leaves.map((tag) => `!${tag}`).join(" && ")];
}

/** Of these files, the sources that still exist. */
export function lintable(files: readonly string[]): readonly string[] {
  return files.filter((file) => /\.[jt]s$/.test(file) && existsSync(join(ROOT, file)));
}

/** The commit that a push adds to; the last one where the branch follows none. */
export async function upstream(): Promise<string> {
  const { code, output } = await run("git", ["merge-base", "HEAD", "@{upstream}"]);
  return code === 0 ? output.trim() : "HEAD~1";
}
