/**
 * The seal of a clean stop: a checksum of the whole database file, which exists only while no node is running. The next start detects any byte that
 * has changed since then. After a crash there is no seal, and only SQLite's own checks and the checksums of rows are used. At every moment, a
 * database file has its seal or its write-ahead log, so a file with neither has lost its write-ahead log. `commit-watermark.io.ts` detects an
 * incomplete write-ahead log.
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
import type { DatabaseSync } from "node:sqlite";
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

/** The seal's path: `journal.sum` next to `journal.db`. */
function sumPath(path: string): string {
  return path.replace(/\.db$/, ".sum");
}

/** Returns `<crc32> <size in bytes>` of a file. Cost: one read of the file, at about 2 GB/s from the page cache. */
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

/** The size of every seal. The size is fixed, so that one seal can overwrite another without additional disk space. */
const SEAL_BYTES = 40;

/**
 * Path at which a seal is stored while a node is running. The file reserves disk space, so that a stop can seal the database even if the disk is
 * full.
 */
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

/** Seals `path`. The seal is on disk when this function returns. `content` is the file that will be renamed to `path`. */
export function sealCleanStop(path: string, content = path): void {
  writeSpare(path, fileSum(content));
  renameSync(sparePath(path), sumPath(path));
  syncDirectory(dirname(path));
}

/** Whether the seal matches the file. */
export function readSeal(path: string): "right" | "wrong" | "absent" {
  let seal: string;
  try {
    seal = readFileSync(sumPath(path), "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return "absent";
    throw error;
  }
  return seal.trim() === fileSum(path) ? "right" : "wrong";
}

/** Whether there is a seal, whether or not it matches. */
export function hasSeal(path: string): boolean {
  return existsSync(sumPath(path));
}

/**
 * Moves the seal away, durably, before the first write is acknowledged. The write-ahead log must already exist with synced content, so that after a
 * crash at any point there is either the seal or the write-ahead log.
 */
export function unsealCleanStop(path: string): void {
  const directory = dirname(path);
  syncDirectory(directory);
  if (hasSeal(path)) renameSync(sumPath(path), sparePath(path));
  else writeSpare(path, "");
  syncDirectory(directory);
}

/**
 * Copies the write-ahead log into the database file and empties the log. If the disk fails, throws; the write-ahead log is then unchanged, and
 * nothing is lost.
 */
export function emptyLog(db: DatabaseSync): void {
  if (db.prepare("PRAGMA wal_checkpoint(TRUNCATE)").get()?.["busy"] !== 0)
    throw new Error("the checkpoint failed because the database is busy");
}

/**
 * Closes a database: empties its write-ahead log, seals the file, and then releases the log. If the disk fails in one of these steps, a write-ahead
 * log remains next to the file. Returns whether the file is sealed.
 */
export function closeSealed(path: string, db: DatabaseSync): boolean {
  let isSealed = false;
  try {
    emptyLog(db);
    sealCleanStop(path);
    isSealed = true;
  } catch {
    // The next start then works without the seal, as after a crash.
  }
  db.close();
  // If SQLite can still empty the write-ahead log, it removes the log. The database file is then complete, as an empty log would indicate.
  if (!isSealed && !existsSync(`${path}-wal`)) writeFileSync(`${path}-wal`, "", { mode: 0o600 });
  return isSealed;
}
