/** The snapshot file in the data directory, with what other nodes told. It is read for a warm start and written when the machine orders it. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { nodesInSnapshot } from "../fabric/snapshot/snapshot.ts";
import { InvariantError, rethrowBroken } from "../lib/errors.ts";
import type { Log } from "../lib/log.io.ts";
import { now } from "../lib/stall-aware-time.io.ts";
import { DATA_FILES } from "../store/data-directory.ts";
import { inSlices, readSnapshotFile, setAsideSnapshotFile, touchSnapshotFile, writeSnapshotFile } from "../store/snapshot-file.io.ts";
import type { KeepSnapshot } from "./core/snapshots.ts";
import { type WarmParts, type WarmStart, warmStart } from "./core/warm-start.ts";

/** The largest snapshot, about four million entries. A larger one is not written. */
const MAX_BYTES = 1 << 30;

/** Whether a node with this data directory was ever up to date with others. */
export function hasSnapshot(directory: string): boolean {
  return existsSync(join(directory, DATA_FILES.snapshot));
}

/** Whether a snapshot in this data directory tells of nodes other than this one. One that cannot be read may, so it counts. */
export async function isOthersInSnapshot(directory: string, nodeId: string): Promise<boolean> {
  const file = await readSnapshotFile(join(directory, DATA_FILES.snapshot), MAX_BYTES);
  if (file === undefined) return false;
  return nodesInSnapshot(file.bytes)?.every((each) => each === nodeId) !== true;
}

export class SnapshotFile {
  /** Undefined with `--ephemeral`: there is never a snapshot. */
  readonly #path: string | undefined;
  readonly #log: Log;
  readonly #stop = new AbortController();
  #writing: Promise<unknown> = Promise.resolve();

  constructor(directory: string | undefined, log: Log) {
    this.#path = directory === undefined ? undefined : join(directory, DATA_FILES.snapshot);
    this.#log = log;
  }

  /** Restores what the file holds. Returns "ignored" when the file cannot be used. To be called before anything is received. */
  async restore(parts: WarmParts): Promise<WarmStart | "ignored" | undefined> {
    if (this.#path === undefined) return undefined;
    try {
      const file = await readSnapshotFile(this.#path, MAX_BYTES);
      if (file === undefined) return undefined;
      const start = now();
      const warm = await inSlices(warmStart(file, parts, start));
      if (!warm.ok) return this.#ignored(warm.fault);
      const { recordCount, refusedCount, savedWallMs } = warm;
      const [ageMs, tookMs] = [now().wallMs - savedWallMs, now().monoMs - start.monoMs].map(Math.round);
      this.#log.info({ recordCount, refusedCount, ageMs, tookMs }, "what other nodes told is back from the snapshot");
      return warm;
    } catch (error) {
      // A bug stopped the restoring half way. No node goes on with half a snapshot, and the next start must not meet the bug again.
      if (error instanceof InvariantError) await setAsideSnapshotFile(this.#path);
      rethrowBroken(error);
      return this.#ignored(error instanceof Error ? error.message : String(error));
    }
  }

  /** Writes a snapshot, or notes that the existing one is still right. Returns whether it did; never rejects. One at a time. */
  keep(order: KeepSnapshot): Promise<boolean> {
    const kept = this.#keep(order);
    this.#writing = kept;
    return kept;
  }

  /** Ends writing. The file on disk stays as it is. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#writing;
  }

  async #keep({ rightWallMs, blocks, setsAside }: KeepSnapshot): Promise<boolean> {
    const path = this.#path;
    if (path === undefined || this.#stop.signal.aborted) return false;
    const { monoMs } = now();
    try {
      if (setsAside) await setAsideSnapshotFile(path);
      if (blocks === undefined) {
        await touchSnapshotFile(path, rightWallMs);
        return true;
      }
      const sizeBytes = await writeSnapshotFile(path, blocks, { maxBytes: MAX_BYTES, signal: this.#stop.signal, rightWallMs });
      if (sizeBytes === undefined && !this.#stop.signal.aborted)
        this.#log.warn({ maxBytes: MAX_BYTES }, "no snapshot of what other nodes told: it is too large");
      this.#log.debug({ sizeBytes, tookMs: Math.round(now().monoMs - monoMs) }, "snapshot of what other nodes told");
      return sizeBytes !== undefined;
    } catch (error) {
      this.#log.warn({ err: error, path }, "no snapshot of what other nodes told");
      return false;
    }
  }

  /** An ignored file stays untouched until the first snapshot of this start is due, and is then set aside. */
  #ignored(fault: string): "ignored" {
    this.#log.warn({ path: this.#path, fault }, "the snapshot of what other nodes told is ignored; they tell it again");
    return "ignored";
  }
}
