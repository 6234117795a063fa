/**
 * The watermark is the number of the last commit that is on disk. It is stored in a small file next to its database: `journal.mark` next to
 * `journal.db`. SQLite treats an empty or truncated write-ahead log as a log with fewer commits. A database whose last commit is below the watermark
 * has lost acknowledged commits.
 *
 * The watermark is written only after the commit is on disk, so it is never ahead of the database. After a power cut it may be behind, or missing.
 */
import { closeSync, existsSync, fdatasyncSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { syncDirectory } from "./clean-stop.io.ts";

/** Interval at which the watermark is synced to disk while commits are made. */
export const WATERMARK_SYNC_MS = 1000;
/** The file always has this size, so that the watermark is overwritten in place, within one sector. */
const WATERMARK_BYTES = 40;

function watermarkPath(path: string): string {
  return path.replace(/\.db$/, ".mark");
}

function textOf(number: number): string {
  return `${`${number} ${crc32(String(number))}`.padEnd(WATERMARK_BYTES - 1)}\n`;
}

/** Returns the highest commit that is known to have been on disk, or 0 if the watermark is missing, incomplete or unreadable. */
export function readWatermark(path: string): number {
  let text: string;
  try {
    text = readFileSync(watermarkPath(path), "latin1");
  } catch {
    return 0;
  }
  const number = Number.parseInt(text, 10);
  return text === textOf(number) ? number : 0;
}

/** The open file. Disk errors are ignored, because an outdated watermark is allowed. */
export class CommitWatermark {
  readonly #path: string;
  #descriptor: number | undefined;
  #isSynced = true;
  #syncedMs = 0;

  constructor(path: string) {
    this.#path = path;
  }

  /**
   * Writes the number of a commit that is on disk, but does not sync the file. The number survives if the process is killed, but may be lost in a
   * power cut.
   */
  write(number: number): void {
    this.#try(() => {
      this.#isSynced = false;
      writeSync((this.#descriptor ??= this.#open()), textOf(number), 0);
    });
  }

  /** Syncs the last number to disk, unless the last sync was less than `everyMs` ago. */
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
    // This must be done before the first write. SQLite does not sync the directory when it creates a write-ahead log, so a power cut could remove the
    // log but not the watermark.
    syncDirectory(dirname(path));
    return descriptor;
  }

  /** `isComplete` means that the database no longer needs a write-ahead log, and that its seal replaces the watermark. */
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
      // An outdated watermark detects fewer losses, but never causes a complete directory to be rejected.
    }
  }
}
