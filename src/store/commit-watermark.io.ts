/**
 * The number of a commit that is on disk, in a small file beside its database: `journal.mark` beside `journal.db`. SQLite reads a log that is
 * empty or cut short as a log with fewer commits. A database whose own number is lower than the mark has lost acknowledged commits.
 *
 * The mark is written only after the commit is on disk, so it is never ahead of the database. It may be behind, or lost, after a power cut.
 */
import { closeSync, existsSync, fdatasyncSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { syncDirectory } from "./clean-stop.io.ts";

/** A mark is made durable this often while commits come. */
export const WATERMARK_SYNC_MS = 1000;
/** Every mark has this size, so that it is overwritten in place, in one sector. */
const WATERMARK_BYTES = 40;

function watermarkPath(path: string): string {
  return path.replace(/\.db$/, ".mark");
}

function textOf(number: number): string {
  return `${`${number} ${crc32(String(number))}`.padEnd(WATERMARK_BYTES - 1)}\n`;
}

/** The highest commit that is known to have been on disk; 0 when the mark is missing, or not whole. */
export function readWatermark(path: string): number {
  if (!existsSync(watermarkPath(path))) return 0;
  const text = readFileSync(watermarkPath(path), "latin1");
  const number = Number.parseInt(text, 10);
  return text === textOf(number) ? number : 0;
}

/** The open file. Nothing throws when the disk refuses: the mark then stays behind, which is no fault. */
export class CommitWatermark {
  readonly #path: string;
  #descriptor: number | undefined;
  #isSynced = true;
  #syncedMs = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /** Notes a commit that is on disk. Costs no sync: a killed process leaves the note, and a power cut may take it. */
  write(number: number): void {
    this.#try(() => {
      this.#isSynced = false;
      writeSync((this.#descriptor ??= this.#open()), textOf(number), 0);
    });
  }

  /** Makes the last note durable, unless a note was made durable less than `everyMs` ago. */
  sync(everyMs = 0): void {
    const nowMs = performance.now();
    if (this.#isSynced || nowMs - this.#syncedMs < everyMs) return;
    this.#try(() => {
      if (this.#descriptor !== undefined) fdatasyncSync(this.#descriptor);
      this.#isSynced = true;
      this.#syncedMs = nowMs;
    });
  }

  #open(): number {
    const path = watermarkPath(this.#path);
    const descriptor = openSync(path, existsSync(path) ? "r+" : "w", 0o600);
    // Before the first note: SQLite does not sync the directory when it creates a log, so a power cut could remove the log and leave the mark.
    syncDirectory(dirname(path));
    return descriptor;
  }

  /** `isComplete`: the database needs no log any more, and its seal takes the place of the mark. */
  close(isComplete: boolean): void {
    this.#try(() => {
      if (this.#descriptor !== undefined) closeSync(this.#descriptor);
      if (isComplete) rmSync(watermarkPath(this.#path), { force: true });
    });
  }

  #try(act: () => void): void {
    try {
      act();
    } catch {
      // An older mark finds fewer losses, and refuses no directory that is whole.
    }
  }
}
