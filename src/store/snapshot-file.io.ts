/** A file that is written block by block beside the one that stands, and takes its place when it is whole and on disk. */
import { open, rename, rm, utimes } from "node:fs/promises";
import { dirname } from "node:path";
import { syncDirectory } from "./clean-stop.io.ts";

/** Bytes gathered before they are given to the disk. */
const WRITE_BYTES = 1 << 20;

/**
 * Writes the blocks to `path`, one a turn of the event loop; the disk is waited for off the loop. Returns the size in bytes, or
 * undefined when it would be above `maxBytes` or `signal` said stop: then what stood there stands.
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
    // The file's own time counts as well: a crash must not leave one that looks newer than what is in it.
    if (rightWallMs !== undefined) await file.utimes(rightWallMs / 1000, rightWallMs / 1000);
    await file.sync();
    await rename(temporary, path);
    syncDirectory(dirname(path));
    return sizeBytes;
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** What is in the file, and when it was last said to be right; undefined when there is none. Rejects when it is above `maxBytes`. */
export async function readSnapshotFile(
  path: string,
  maxBytes: number,
): Promise<{ readonly bytes: Uint8Array; readonly savedWallMs: number } | undefined> {
  try {
    await using file = await open(path, "r");
    const { size, mtimeMs } = await file.stat();
    if (size > maxBytes) throw new RangeError(`it has ${size} bytes, more than ${maxBytes}`);
    return { bytes: await file.readFile(), savedWallMs: mtimeMs };
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return undefined;
    throw error;
  }
}

/** Nothing has changed since it was written: it is as good as one made now. */
export async function touchSnapshotFile(path: string, wallMs: number): Promise<void> {
  await utimes(path, wallMs / 1000, wallMs / 1000);
}

/** What cannot be used is kept beside, for people to look at, before something else takes its place. */
export async function setAsideSnapshotFile(path: string): Promise<void> {
  await rename(path, `${path}.ignored`);
}
