/** Runs a mutant in a process of its own. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { FOUND_BY } from "./found-by.ts";
import type { Mutant } from "./mutants.ts";

export interface MutantResult {
  readonly isPlanted: boolean;
  /** A seed that found it; absent when none did. */
  readonly found?: { readonly seed: number; readonly invariant: string; readonly message: string };
}

const run = promisify(execFile);

async function inSeeds(name: string, first: number, last: number): Promise<MutantResult> {
  const child = join(import.meta.dirname, "mutant-child.ts");
  const { stdout } = await run(process.execPath, [child, name, `${last}`, `${first}`], { maxBuffer: 1 << 24 });
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as MutantResult;
}

/** Tries the seed that found it last, and all that are allowed when that one does not. */
export async function runMutant({
  name,
  withinSeeds,
  fromSeed = 1,
}: Pick<Mutant, "name" | "withinSeeds" | "fromSeed">): Promise<MutantResult> {
  const last = FOUND_BY[name];
  if (last !== undefined && last <= withinSeeds) {
    const result = await inSeeds(name, last, last);
    if (result.found !== undefined) return result;
  }
  return inSeeds(name, fromSeed, withinSeeds);
}
