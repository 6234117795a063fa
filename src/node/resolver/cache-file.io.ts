/**
 * Restores and writes the on-disk copy of a resolver's cache (semantics.md, Resolver 18). The copy is restored before the resolver follows any
 * namespace, and is written periodically.
 */
import { join } from "node:path";
import { InvariantError, rethrowInvariant } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import type { Time } from "../../lib/machine.ts";
import { later } from "../../lib/stall-aware-time.io.ts";
import type { RestoredCopy } from "../../resolver/disk/restore.ts";
import type { ResolverMachine } from "../../resolver/machine.ts";
import { DATA_FILES } from "../../store/data-directory.ts";
import { inSlices, readSnapshotFile, setAsideSnapshotFile, writeSnapshotFile } from "../../store/snapshot-file.io.ts";
import type { NodeComponent } from "../components.io.ts";

export interface CacheFileParts {
  /** The data directory. Undefined with `--ephemeral`, because there is no copy. */
  readonly directory: string | undefined;
  readonly machine: Pick<ResolverMachine, "copy" | "copyMark" | "restore">;
  /** Larger copies are neither written nor read. */
  readonly maxBytes: number;
  readonly log: Pick<Log, "debug" | "info" | "warn">;
  readonly now: () => Time;
  /** Called when the resolver begins to serve a restored copy, for the audit log. */
  readonly onReplayed: (copy: RestoredCopy & { readonly ok: true }) => void;
}

/** Interval between checks, in ms. A copy is written if something changed. */
const INTERVAL_MS = 30_000;
/**
 * Interval between checks while there is no usable copy, in ms. The interval is short so that a resolver that is killed soon after its first start
 * finds a copy at the next start.
 */
const FIRST_INTERVAL_MS = 1000;
/** After this many intervals, a copy is written even without changes, so that it does not become too old. */
const IDLE_INTERVALS = 10;
/** Interval between warnings while the disk keeps failing, in ms. */
const WARN_MS = 600_000;

export class CacheFile {
  readonly #path: string;
  readonly #parts: CacheFileParts;
  readonly #stop = new AbortController();
  /** The `copyMark` of the file on disk. */
  #mark: string | undefined;
  #idleCount = 0;
  #isIgnored = false;
  /** Whether the next start can use the copy on disk. */
  hasCopy = false;
  #warnedMonoMs: number | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(directory: string, parts: CacheFileParts) {
    this.#path = join(directory, DATA_FILES.resolver);
    this.#parts = parts;
  }

  /** Restores the state from the file. An unusable file is ignored with a warning. */
  async restore(): Promise<void> {
    const { machine, maxBytes, log, now, onReplayed } = this.#parts;
    const start = now();
    try {
      const file = await readSnapshotFile(this.#path, maxBytes);
      if (file === undefined) return;
      const restored = await inSlices(machine.restore(file.bytes, start));
      if (!restored.ok) return this.#ignored(restored.fault);
      const { entryCount, ageMs } = restored;
      this.hasCopy = true;
      log.info({ entryCount, ageMs, tookMs: Math.round(now().monoMs - start.monoMs) }, "restored the cache from the copy on disk");
      onReplayed(restored);
    } catch (error) {
      // A bug interrupted the restore. The file is renamed, so that the next start does not fail on it again.
      if (error instanceof InvariantError) await setAsideSnapshotFile(this.#path);
      rethrowInvariant(error);
      this.#ignored(error instanceof Error ? error.message : String(error));
    }
  }

  /** Writes a copy if something changed, or if the file is old. Copies are written one at a time. Never rejects. */
  keep(): Promise<void> {
    this.#idleCount += 1;
    const mark = this.#parts.machine.copyMark;
    if (mark === undefined || (mark === this.#mark && this.#idleCount < IDLE_INTERVALS)) return this.#writing;
    this.#writing = this.#writing.then(() => this.#write(mark, this.#stop.signal));
    return this.#writing;
  }

  /** Writes a final copy, unless `signal` aborts before it is complete. */
  async close(signal: AbortSignal): Promise<void> {
    this.#stop.abort();
    await this.#writing;
    const mark = this.#parts.machine.copyMark;
    if (mark !== undefined) await this.#write(mark, signal);
  }

  async #write(mark: string, signal: AbortSignal): Promise<void> {
    const { machine, maxBytes, log, now } = this.#parts;
    const { monoMs } = now();
    try {
      if (signal.aborted) return;
      if (this.#isIgnored) await setAsideSnapshotFile(this.#path);
      this.#isIgnored = false;
      const sizeBytes = await writeSnapshotFile(this.#path, machine.copy(now), { maxBytes, signal });
      if (sizeBytes === undefined && signal.aborted) return;
      if (sizeBytes === undefined) return this.#warn({ maxBytes }, "copy of the cache not written to disk: it is too large");
      this.#mark = mark;
      this.hasCopy = true;
      this.#idleCount = 0;
      log.debug({ sizeBytes, tookMs: Math.round(now().monoMs - monoMs) }, "copy of the cache written to disk");
      if (this.#warnedMonoMs === undefined) return;
      this.#warnedMonoMs = undefined;
      log.info({ path: this.#path }, "copy of the cache written to disk after earlier failures");
    } catch (error) {
      rethrowInvariant(error);
      this.#warn({ err: error, path: this.#path }, "copy of the cache not written to disk");
    }
  }

  #warn(fields: Readonly<Record<string, unknown>>, message: string): void {
    const { monoMs } = this.#parts.now();
    if (this.#warnedMonoMs !== undefined && monoMs - this.#warnedMonoMs < WARN_MS) return;
    this.#warnedMonoMs = monoMs;
    this.#parts.log.warn(fields, message);
  }

  /** An ignored file stays untouched until there is a copy to write, and is then renamed. */
  #ignored(fault: string): void {
    this.#isIgnored = true;
    this.#parts.log.warn({ path: this.#path, fault }, "copy of the cache on disk ignored; entries are fetched from upstream servers");
  }
}

export interface KeptCopy extends NodeComponent {
  /**
   * Writes a copy immediately if the data changed. Called when the resolver becomes ready, and when another policy comes into force, because a
   * restart must not return to the previous policy.
   */
  readonly writeSoon: () => void;
}

/** Restores the copy, and after that writes it periodically. Must be called before the resolver follows any namespace. */
export async function openCacheFile(parts: CacheFileParts): Promise<KeptCopy> {
  if (parts.directory === undefined) return { writeSoon: () => {} };
  const file = new CacheFile(parts.directory, parts);
  await file.restore();
  const rounds = new CopyRounds(
    () => file.keep(),
    () => (file.hasCopy ? INTERVAL_MS : FIRST_INTERVAL_MS),
  );
  return {
    start: () => rounds.begin(),
    writeSoon: () => rounds.writeSoon(),
    stop: async (by) => {
      rounds.end();
      await file.close(AbortSignal.timeout(by.leftMs()));
    },
  };
}

/** Checks periodically whether a copy must be written, one check at a time. */
class CopyRounds {
  readonly #keep: () => Promise<void>;
  readonly #intervalMs: () => number;
  #state: "idle" | "waiting" | "keeping" | "hurried" | "over" = "idle";
  #cancel = (): void => {};

  constructor(keep: () => Promise<void>, intervalMs: () => number) {
    this.#keep = keep;
    this.#intervalMs = intervalMs;
  }

  begin(): void {
    this.#state = "waiting";
    this.#cancel = later(() => this.#look(), this.#intervalMs());
  }

  /** Checks now, or when the check in progress ends. */
  writeSoon(): void {
    if (this.#state === "keeping") this.#state = "hurried";
    if (this.#state !== "waiting") return;
    this.#cancel();
    this.#look();
  }

  end(): void {
    this.#state = "over";
    this.#cancel();
  }

  #look(): void {
    this.#state = "keeping";
    void this.#lookOnce();
  }

  async #lookOnce(): Promise<void> {
    await this.#keep();
    if (this.#state === "hurried") this.#look();
    else if (this.#state === "keeping") this.begin();
  }
}
