/**
 * A checksum of the whole file, left by a clean stop and gone while a node runs: any byte that changed while no node was
 * running is noticed at the next start. After a crash there is none, and SQLite's own checks and row checksums remain.
 * A file has its seal or its log, at every moment: one that has neither has lost its log.
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";

const CHUNK_BYTES = 1 << 20;

/** Makes creations, renames and removals in `directory` durable. */
export function syncDirectory(directory: string): void {
  const descriptor = openSync(directory, "r");
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** `journal.sum` beside `journal.db`. */
function sumPath(path: string): string {
  return path.replace(/\.db$/, ".sum");
}

/** `<crc32> <size in bytes>` of a file. Cost: one read of it, about 2 GB/s from the page cache. */
function fileSum(path: string): string {
  const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  const descriptor = openSync(path, "r");
  try {
    let sum = 0;
    let sizeBytes = 0;
    for (;;) {
      const readBytes = readSync(descriptor, chunk, 0, CHUNK_BYTES, sizeBytes);
      if (readBytes === 0) return `${sum} ${sizeBytes}`;
      sum = crc32(chunk.subarray(0, readBytes), sum);
      sizeBytes += readBytes;
    }
  } finally {
    closeSync(descriptor);
  }
}

/** A seal has this many bytes, so that one can be written over another without more room on the disk. */
const SEAL_BYTES = 40;

/** Where the seal waits while a node runs: its room on the disk is kept, so that a full disk cannot keep a stop from sealing. */
function sparePath(path: string): string {
  return `${sumPath(path)}.new`;
}

function writeSpare(path: string, seal: string): void {
  const spare = sparePath(path);
  const descriptor = openSync(spare, existsSync(spare) ? "r+" : "w", 0o600);
  try {
    writeSync(descriptor, `${seal.padEnd(SEAL_BYTES - 1)}\n`, 0);
    ftruncateSync(descriptor, SEAL_BYTES);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

/** Writes the checksum of `path`; it is on disk when this returns. `content` is the file that will be there under that name. */
export function sealCleanStop(path: string, content = path): void {
  writeSpare(path, fileSum(content));
  renameSync(sparePath(path), sumPath(path));
  syncDirectory(dirname(path));
}

/** What the seal says of the file. */
export function readSeal(path: string): "right" | "wrong" | "absent" {
  let seal: string;
  try {
    seal = readFileSync(sumPath(path), "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return "absent";
    throw error;
  }
  // The first version did not sync its seals: a crash could leave an empty one, and a log was gone before any was made.
  return seal === "" || seal.trim() === fileSum(path) ? "right" : "wrong";
}

/** Whether there is a seal, of whatever file. */
export function hasSeal(path: string): boolean {
  return existsSync(sumPath(path));
}

/**
 * Puts the seal away, durably: it must not outlive the first write that somebody is told of. The log must be there already, with
 * something synced in it, so that a crash at any point leaves one of the two.
 */
export function unsealCleanStop(path: string): void {
  const directory = dirname(path);
  syncDirectory(directory);
  if (hasSeal(path)) renameSync(sumPath(path), sparePath(path));
  else writeSpare(path, "");
  syncDirectory(directory);
}

/**
 * Closes a database: its log is emptied, the seal of the whole file is on disk, and only then the log goes. When the disk refuses
 * one of the two, a log stays beside the file.
 */
export function closeSealed(path: string, db: { close(): void }, checkpoint: () => void): void {
  let isSealed = false;
  try {
    checkpoint();
    sealCleanStop(path);
    isSealed = true;
  } catch {
    // The next start then does without the checksum, as after a crash.
  }
  db.close();
  // SQLite removes a log that it could empty after all. The file is complete then, and an empty log says so.
  if (!isSealed && !existsSync(`${path}-wal`)) writeFileSync(`${path}-wal`, "", { mode: 0o600 });
}
