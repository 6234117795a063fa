/**
 * One process a database of a data directory. The lock is SQLite's exclusive file lock, which the kernel takes back when the process
 * ends in whatever way; so a stale lock cannot exist, and nothing is to be removed by hand after a crash.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";

export type LockResult =
  | { readonly isHeld: true; readonly release: () => void }
  /** `holder` is what the holder wrote about itself: its process id, undefined when it could not. */
  | { readonly isHeld: false; readonly holder: string | undefined };

/** Makes the directory (mode 700) if it is missing, and takes the lock `name` in it without waiting. */
export function lockDirectory(directory: string, name: string): LockResult {
  makeDirectory(directory);
  const pidPath = join(directory, `${name}.pid`);
  // A file of its own: closing any other descriptor of a locked file would drop its POSIX lock, and we read the database's header.
  const db = new DatabaseSync(join(directory, `${name}.lock`), { timeout: 0 });
  try {
    db.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE");
  } catch (error) {
    db.close();
    if (!isBusy(error)) throw error;
    return { isHeld: false, holder: readHolder(pidPath) };
  }
  try {
    writeFileSync(pidPath, `${process.pid}\n`);
  } catch {
    // Only the message to a second opener is poorer for it; a full disk must not keep a node from starting.
  }
  const release = () => {
    rmSync(pidPath, { force: true });
    db.close();
  };
  return { isHeld: true, release };
}

/** Not `recursive`: where the system makes no directories, such as in /proc, Node's never returns. */
function makeDirectory(directory: string): void {
  const isThere = () => statSync(directory, { throwIfNoEntry: false })?.isDirectory() === true;
  if (isThere()) return;
  const parent = dirname(directory);
  if (parent !== directory && !existsSync(parent)) makeDirectory(parent);
  try {
    mkdirSync(directory, { mode: 0o700 });
  } catch (error) {
    // Another thread that opens its database here may have made it in between.
    if (!isThere()) throw error;
  }
}

function isBusy(error: unknown): boolean {
  return error instanceof Error && "errcode" in error && error.errcode === 5; // SQLITE_BUSY
}

function readHolder(pidPath: string): string | undefined {
  try {
    return readFileSync(pidPath, "utf8").trim() || undefined;
  } catch {
    return undefined; // Not written, or not readable by us: the lock itself is what counts.
  }
}
