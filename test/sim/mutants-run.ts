/** Runs a mutant in a process of its own. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Mutant } from "./mutants.ts";

export interface MutantResult {
  readonly isPlanted: boolean;
  /** The first seed that found it; absent when none did. */
  readonly found?: { readonly seed: number; readonly invariant: string; readonly message: string };
}

const run = promisify(execFile);

export async function runMutant({
  name,
  withinSeeds,
  fromSeed = 1,
}: Pick<Mutant, "name" | "withinSeeds" | "fromSeed">): Promise<MutantResult> {
  const child = join(import.meta.dirname, "mutant-child.ts");
  const { stdout } = await run(process.execPath, [child, name, `${withinSeeds}`, `${fromSeed}`], { maxBuffer: 1 << 24 });
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as MutantResult;
}
