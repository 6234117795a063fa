/** What the working folder changes since 50 commits ago: so far a gate that saves work may trust earlier runs. */
import { run } from "./run.ts";

const COMMITS = 50;

/** The files that differ; undefined in a clone that does not go back so far, where nothing is known. */
export async function changedFiles(): Promise<readonly string[] | undefined> {
  const { code, output } = await run("git", ["diff", "--name-only", `HEAD~${COMMITS}`]);
  return code === 0 ? output.split("\n").filter((line) => line !== "") : undefined;
}
