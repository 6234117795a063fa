/** A file that is written in blocks under a temporary name. It replaces the previous file when it is complete and on disk. */
import { open, rename, rm, utimes } from "node:fs/promises";
import { dirname } from "node:path";
import { performance } from "node:perf_hooks";

/** Number of bytes that are collected before they are written. */
const WRITE_BYTES = 1 << 20;
/** Number of bytes that are read at a time, because Node reads less than 2 GiB in one call. */
const READ_BYTES = 1 << 30;
/** Time after which restoring a file yields to the event loop, in ms. */
const SLICE_MS = 5;

/**
 * Writes the blocks to `path`, one per turn of the event loop, without blocking on the disk. Returns the size in bytes. If the size would exceed
 * `maxBytes` or `signal` is aborted, keeps the previous file and returns undefined.
 */
export async function writeSnapshotFile(
  path: string,
  blocks: Iterable<Uint8Array>,
  { maxBytes, signal, rightWallMs }: { readonly maxBytes: number; readonly signal: AbortSignal; readonly rightWallMs?: number },
): Promise<number | undefined> {
  const temporary = `${path}.new`;
  try {
    await using file = await open(temporary, "w", 0o600);
    let sizeBytes = 0;
    let gathered: Uint8Array[] = [];
    let gatheredBytes = 0;
    for (const block of blocks) {
      gathered.push(block);
      gatheredBytes += block.length;
      sizeBytes += block.length;
      if (signal.aborted || sizeBytes > maxBytes) {
        await rm(temporary, { force: true });
        return undefined;
      }
      if (gatheredBytes >= WRITE_BYTES) {
        await file.writev(gathered);
        gathered = [];
        gatheredBytes = 0;
      } else await new Promise((resolve) => setImmediate(resolve));
    }
    if (gathered.length > 0) await file.writev(gathered);
    // The file's time is set before the rename, because a crash must not leave a file that appears newer than its content.
    if (rightWallMs !== undefined) await file.utimes(rightWallMs / 1000, rightWallMs / 1000);
    await file.sync();
    await rename(temporary, path);
    // `syncDirectory` is not used, because it would block the event loop while the disk syncs.
    await using directory = await open(dirname(path), "r");
    await directory.sync();
    return sizeBytes;
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/**
 * Returns the content of the file, and the time at which the content was last known to be current. Undefined if there is no file. Rejects if the file
 * has more than `maxBytes`.
 */
export async function readSnapshotFile(
  path: string,
  maxBytes: number,
): Promise<{ readonly bytes: Uint8Array; readonly savedWallMs: number } | undefined> {
  try {
    await using file = await open(path, "r");
    const { size, mtimeMs } = await file.stat();
    if (size > maxBytes) throw new RangeError(`it has ${size} bytes, more than the maximum of ${maxBytes}`);
    const bytes = Buffer.allocUnsafeSlow(size);
    for (let at = 0; at < size; ) {
      const { bytesRead } = await file.read(bytes, at, Math.min(size - at, READ_BYTES), at);
      if (bytesRead === 0) throw new Error("it was truncated while it was being read");
      at += bytesRead;
    }
    return { bytes, savedWallMs: mtimeMs };
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Marks the file as current, because nothing has changed since the file was written. */
export async function touchSnapshotFile(path: string, wallMs: number): Promise<void> {
  await utimes(path, wallMs / 1000, wallMs / 1000);
}

/** Renames a file that cannot be used, so that it is kept for inspection. */
export async function setAsideSnapshotFile(path: string): Promise<void> {
  await rename(path, `${path}.ignored`);
}

/** Runs a generator that restores a file, in slices: at each `yield`, the event loop can run. Resolves with the generator's result. */
export async function inSlices<T>(work: Generator<unknown, T>): Promise<T> {
  let untilMonoMs = performance.now() + SLICE_MS;
  for (let step = work.next(); ; step = work.next()) {
    if (step.done === true) return step.value;
    if (performance.now() < untilMonoMs) continue;
    await new Promise((resolve) => setImmediate(resolve));
    untilMonoMs = performance.now() + SLICE_MS;
  }
}
