/** What a command reads: files named by a person, and lists of servers. */

import type { Environment } from "./environment.ts";
import { UsageError } from "./exit.ts";

/** Reads a file named on the command line (`-` is standard input); one that cannot be read is bad usage. `source` is the flag or variable that names it. */
export async function readInput(environment: Environment, file: string, maxBytes: number, source?: string): Promise<string> {
  try {
    return await environment.readText(file, maxBytes);
  } catch (error) {
    const named = source === undefined ? file : `${source} ${file}`;
    throw new UsageError(`cannot read ${named}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}
