/**
 * The snapshot file in the data directory, which contains the replicated data of other nodes. The file is read for a warm start, and is written when
 * the machine orders it.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { nodesInSnapshot } from "../fabric/snapshot/snapshot.ts";
import { InvariantError, rethrowInvariant } from "../lib/errors.ts";
import type { Log } from "../lib/log.io.ts";
import { now } from "../lib/stall-aware-time.io.ts";
import { DATA_FILES } from "../store/data-directory.ts";
import { inSlices, readSnapshotFile, setAsideSnapshotFile, touchSnapshotFile, writeSnapshotFile } from "../store/snapshot-file.io.ts";
import type { KeepSnapshot } from "./core/snapshots.ts";
import { type WarmParts, type WarmStart, warmStart } from "./core/warm-start.ts";

/** Maximum size of a snapshot, enough for about four million entries. A larger snapshot is not written. */
const MAX_BYTES = 1 << 30;

/** Whether a node with this data directory was ever in sync with others. */
export function hasSnapshot(directory: string): boolean {
  return existsSync(join(directory, DATA_FILES.snapshot));
}

/** Whether a snapshot in this data directory contains data from other nodes. An unreadable snapshot is assumed to contain such data. */
export async function isOthersInSnapshot(directory: string, nodeId: string): Promise<boolean> {
  const file = await readSnapshotFile(join(directory, DATA_FILES.snapshot), MAX_BYTES);
  if (file === undefined) return false;
  return nodesInSnapshot(file.bytes)?.every((each) => each === nodeId) !== true;
}

export class SnapshotFile {
  /** Undefined with `--ephemeral`, because there is never a snapshot. */
  readonly #path: string | undefined;
  readonly #log: Log;
  readonly #stop = new AbortController();
  #writing: Promise<unknown> = Promise.resolve();

  constructor(directory: string | undefined, log: Log) {
    this.#path = directory === undefined ? undefined : join(directory, DATA_FILES.snapshot);
    this.#log = log;
  }

  /** Restores the content of the file. Returns "ignored" if the file cannot be used. Must be called before anything is received. */
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
      this.#log.info({ recordCount, refusedCount, ageMs, tookMs }, "restored the data of other nodes from the snapshot");
      return warm;
    } catch (error) {
      // A bug interrupted the restore. The node must not run with half a snapshot. The file is renamed, so that the next start does not fail on it
      // again.
      if (error instanceof InvariantError) await setAsideSnapshotFile(this.#path);
      rethrowInvariant(error);
      return this.#ignored(error instanceof Error ? error.message : String(error));
    }
  }

  /**
   * Writes a snapshot, or only marks the existing one as current. Returns whether it succeeded, and never rejects. Must not be called concurrently.
   */
  keep(order: KeepSnapshot): Promise<boolean> {
    const kept = this.#keep(order);
    this.#writing = kept;
    return kept;
  }

  /** Stops writing. The file on disk does not change. */
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
        this.#log.warn({ maxBytes: MAX_BYTES }, "snapshot not written: it would exceed the size limit");
      this.#log.debug({ sizeBytes, tookMs: Math.round(now().monoMs - monoMs) }, "snapshot write finished");
      return sizeBytes !== undefined;
    } catch (error) {
      this.#log.warn({ err: error, path }, "snapshot not written");
      return false;
    }
  }

  /** Logs that the file is ignored. The file stays untouched until the first snapshot of this process instance is due, and is then renamed. */
  #ignored(fault: string): "ignored" {
    this.#log.warn({ path: this.#path, fault }, "snapshot ignored: other nodes will send their data again");
    return "ignored";
  }
}
