/** Whether a process runs that is not a child of ours. */
import { existsSync, readFileSync } from "node:fs";

/** False too of one that has ended and that its parent has not asked after (state Z): where the first process of a container asks after nobody, it stays. */
export function isRunning(pid: number): boolean {
  const folder = `/proc/${pid}`;
  if (!existsSync(folder)) return false;
  try {
    // The state follows the name, which is in parentheses and may hold some itself.
    return !/\) [ZX] [^)]*$/.test(readFileSync(`${folder}/stat`, "utf8"));
  } catch {
    // It has gone in between.
    return false;
  }
}
