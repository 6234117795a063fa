/** The file in the data directory in which a node stores its summaries for its next start (docs/design/summaries.md, Restart). */
import { join } from "node:path";
import type { SummaryParts } from "../../fabric/summaries/channel.ts";
import { type RestoreParts, restoreSummaries } from "../../fabric/summaries/snapshot.ts";
import { InvariantError, rethrowInvariant } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import type { Time } from "../../lib/machine.ts";
import { DATA_FILES } from "../../store/data-directory.ts";
import { inSlices, readSnapshotFile, setAsideSnapshotFile, writeSnapshotFile } from "../../store/snapshot-file.io.ts";

/** Maximum size of the file. The summaries that a node can store occupy about an eighth of this size. */
export const MAX_SUMMARIES_FILE_BYTES: number = 1 << 30;

export interface SummariesFileOptions {
  /** Undefined with `--ephemeral`, because there is never a file. */
  readonly directory: string | undefined;
  /** A larger file is neither written nor read. */
  readonly maxBytes: number;
  readonly log: Pick<Log, "debug" | "info" | "warn">;
  readonly now: () => Time;
}

export class SummariesFile {
  readonly #path: string | undefined;
  readonly #maxBytes: number;
  readonly #log: SummariesFileOptions["log"];
  readonly #now: () => Time;
  readonly #stop = new AbortController();
  #writing: Promise<unknown> = Promise.resolve();

  constructor({ directory, maxBytes, log, now }: SummariesFileOptions) {
    this.#path = directory === undefined ? undefined : join(directory, DATA_FILES.summaries);
    this.#maxBytes = maxBytes;
    this.#log = log;
    this.#now = now;
  }

  /** Restores the content of the file. An invalid file is logged, renamed and ignored. Must be called before anything is received. */
  async restore(parts: SummaryParts & RestoreParts): Promise<void> {
    const path = this.#path;
    if (path === undefined) return;
    try {
      const start = this.#now();
      const file = await readSnapshotFile(path, this.#maxBytes);
      if (file === undefined) return;
      const restored = await inSlices(restoreSummaries(file.bytes, parts, start));
      if (!restored.ok) return await this.#setAside(path, restored.fault);
      const { recordCount, refusedCount } = restored;
      const tookMs = Math.round(this.#now().monoMs - start.monoMs);
      this.#log.info({ recordCount, refusedCount, tookMs }, "restored summaries from disk");
    } catch (error) {
      // A bug interrupted the restore. The node must not run with half of the file's content. The file is renamed, so that the next start does not
      // fail on it again.
      if (error instanceof InvariantError) await setAsideSnapshotFile(path);
      rethrowInvariant(error);
      await this.#setAside(path, error instanceof Error ? error.message : String(error));
    }
  }

  /** Writes the file again. Never rejects: without the file, borders and the region send the summaries again. */
  keep(blocks: Iterable<Uint8Array>): Promise<void> {
    const kept = this.#keep(blocks);
    this.#writing = kept;
    return kept;
  }

  /** Stops writing. The file on disk does not change. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#writing;
  }

  async #keep(blocks: Iterable<Uint8Array>): Promise<void> {
    if (this.#path === undefined || this.#stop.signal.aborted) return;
    const { monoMs } = this.#now();
    try {
      const sizeBytes = await writeSnapshotFile(this.#path, blocks, { maxBytes: this.#maxBytes, signal: this.#stop.signal });
      if (sizeBytes === undefined && !this.#stop.signal.aborted)
        this.#log.warn({ maxBytes: this.#maxBytes }, "summaries not written to disk: they exceed the size limit");
      this.#log.debug({ sizeBytes, tookMs: Math.round(this.#now().monoMs - monoMs) }, "summaries write finished");
    } catch (error) {
      rethrowInvariant(error);
      this.#log.warn({ err: error, path: this.#path }, "summaries not written to disk");
    }
  }

  async #setAside(path: string, fault: string): Promise<void> {
    this.#log.warn({ path, fault }, "summaries on disk ignored and set aside: peers will send them again");
    try {
      await setAsideSnapshotFile(path);
    } catch (error) {
      rethrowInvariant(error);
      this.#log.warn({ err: error, path }, "summaries on disk not set aside");
    }
  }
}
