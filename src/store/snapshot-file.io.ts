/** A file that is written block by block under another name, and replaces the one before it when it is whole and on disk. */
import { open, rename, rm, utimes } from "node:fs/promises";
import { dirname } from "node:path";
import { performance } from "node:perf_hooks";

/** How many bytes are gathered for one write. */
const WRITE_BYTES = 1 << 20;
/** How many are read at once: Node reads less than 2 GiB. */
const READ_BYTES = 1 << 30;
/** How long restoring runs before the event loop has its turn, in ms. */
const SLICE_MS = 5;

/**
 * Writes the blocks to `path`, one a turn of the event loop, which does not wait for the disk. Returns the size in bytes. Returns undefined,
 * and leaves the file before as it is, when the size would be above `maxBytes` or `signal` is aborted.
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
    // Set before the renaming: a crash must not leave a file that looks newer than its content.
    if (rightWallMs !== undefined) await file.utimes(rightWallMs / 1000, rightWallMs / 1000);
    await file.sync();
    await rename(temporary, path);
    // Not `syncDirectory`, which would hold the event loop for as long as the disk takes.
    await using directory = await open(dirname(path), "r");
    await directory.sync();
    return sizeBytes;
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** The content of the file, and when it was last known to be right. Undefined when there is no file. Rejects when it has more than `maxBytes`. */
export async function readSnapshotFile(
  path: string,
  maxBytes: number,
): Promise<{ readonly bytes: Uint8Array; readonly savedWallMs: number } | undefined> {
  try {
    await using file = await open(path, "r");
    const { size, mtimeMs } = await file.stat();
    if (size > maxBytes) throw new RangeError(`it has ${size} bytes, more than ${maxBytes}`);
    const bytes = Buffer.allocUnsafeSlow(size);
    for (let at = 0; at < size; ) {
      const { bytesRead } = await file.read(bytes, at, Math.min(size - at, READ_BYTES), at);
      if (bytesRead === 0) throw new Error("it was cut off while it was read");
      at += bytesRead;
    }
    return { bytes, savedWallMs: mtimeMs };
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Notes that the file is as good as one written now, because nothing has changed since. */
export async function touchSnapshotFile(path: string, wallMs: number): Promise<void> {
  await utimes(path, wallMs / 1000, wallMs / 1000);
}

/** Keeps a file that cannot be used under another name, for people to look at. */
export async function setAsideSnapshotFile(path: string): Promise<void> {
  await rename(path, `${path}.ignored`);
}

/** Does the work of reading a file back, in slices: it yields where the event loop may have its turn. Resolves with what it returns. */
export async function inSlices<T>(work: Generator<unknown, T>): Promise<T> {
  let untilMonoMs = performance.now() + SLICE_MS;
  for (let step = work.next(); ; step = work.next()) {
    if (step.done === true) return step.value;
    if (performance.now() < untilMonoMs) continue;
    await new Promise((resolve) => setImmediate(resolve));
    untilMonoMs = performance.now() + SLICE_MS;
  }
}
