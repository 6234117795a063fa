/** What an SQLite file of ours is told by, and why one is not used. */

/** Why a directory or file is not used. */
export type FileProblem = "corrupt" | "newer_format" | "in_use" | "other_node" | "disk_full" | "unreadable";

/** What tells our files from each other and from those of other programs. */
export interface DatabaseFormat {
  /** `journal`: its files are `journal.db`, `journal.lock`, … */
  readonly name: string;
  /** In the SQLite header. */
  readonly applicationId: number;
  readonly version: number;
  /** Whether it has the seal of a clean stop whenever it has no log (`clean-stop.io.ts`). */
  readonly isSealed: boolean;
  /** Creates its tables. */
  readonly schema: string;
}

/** What to tell of a file that says what was never written to it. */
export function damageText(path: string, problem: string): string {
  return `${path} is damaged: ${problem}; it was left as it is: restore a backup, or move the directory away to start empty`;
}
