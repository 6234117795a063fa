/** Runs a mutant in a process of its own. */
import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";

export interface MutantResult {
  readonly isPlanted: boolean;
  /** The first seed that found it; absent when none did. */
  readonly found?: { readonly seed: number; readonly invariant: string; readonly message: string };
}

const run = promisify(execFile);

export async function runMutant(name: string, maxSeeds: number): Promise<MutantResult> {
  const child = join(import.meta.dirname, "mutant-child.ts");
  const { stdout } = await run(process.execPath, [child, name, String(maxSeeds)], { maxBuffer: 1 << 24 });
  return JSON.parse(stdout.trim().split("\n").at(-1) ?? "") as MutantResult;
}
