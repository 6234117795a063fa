/**
 * A checksum of the whole file, left by a clean stop and gone while a node runs: any byte that changed while no node was
 * running is noticed at the next start. After a crash there is none, and SQLite's own checks and row checksums remain.
 */
import { closeSync, fsyncSync, openSync, readFileSync, readSync, renameSync, rmSync, writeFileSync } from "node:fs";
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

/** Writes the checksum of a file that nobody writes to any more. Losing it to a crash is harmless, so it is not synced. */
export function sealCleanStop(path: string): void {
  const temporary = `${sumPath(path)}.new`;
  writeFileSync(temporary, `${fileSum(path)}\n`, { mode: 0o600 });
  renameSync(temporary, sumPath(path));
}

/** Whether the file is the one that was sealed; true when there is no seal. */
export function verifyCleanStop(path: string): boolean {
  let seal: string;
  try {
    seal = readFileSync(sumPath(path), "utf8").trim();
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return true;
    throw error;
  }
  // A crash can leave an empty file in place of one that was never synced: no statement, not a wrong one.
  return seal === "" || seal === fileSum(path);
}

/** Removes the seal, durably: it must not outlive the first write, or a crash would look like damage. */
export function unsealCleanStop(path: string): void {
  rmSync(sumPath(path), { force: true });
  rmSync(`${sumPath(path)}.new`, { force: true });
  syncDirectory(dirname(path));
}
