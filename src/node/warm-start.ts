/**
 * Warm start: a snapshot of what other nodes told, in the data directory, from which a restarted node serves at once, marked with
 * its age, until it has caught up with a peer. Own records come back from the journal.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { EntryStamper } from "../catalog/entry/codec.ts";
import type { Bounds } from "../catalog/entry/names.ts";
import type { Origin, StoredRecord } from "../catalog/record/stored-record.ts";
import type { Replica } from "../catalog/replica/replica.ts";
import type { AcceptedStart } from "../fabric/membership/node-starts.ts";
import type { SnapshotOrigin } from "../fabric/snapshot/codec.ts";
import { nodesInSnapshot, readSnapshot, restoreSnapshot, snapshotBlocks } from "../fabric/snapshot/snapshot.ts";
import { BrokenInvariant, rethrowBroken } from "../lib/errors.ts";
import type { Hlc } from "../lib/hlc.ts";
import type { Log } from "../lib/log.io.ts";
import { DATA_FILES } from "../store/data-directory.ts";
import { readSnapshotFile, setAsideSnapshotFile, touchSnapshotFile, writeSnapshotFile } from "../store/snapshot-file.io.ts";
import { now } from "./rooms.io.ts";

/** Above this there is no snapshot: about four million entries. */
const MAX_BYTES = 1 << 30;
/** Milliseconds of restoring before the event loop has its turn. */
const SLICE_MS = 5;

export interface WarmStartParts {
  /** Undefined with `--ephemeral`: there is never a snapshot. */
  readonly directory: string | undefined;
  readonly replica: Replica;
  readonly stamper: EntryStamper;
  readonly bounds: Bounds;
  readonly hlc: Hlc;
  readonly maxClockSkewMs: number;
  readonly clusterId: string;
  /** Clusters whose records are not taken any more. */
  readonly isForeign?: (place: { readonly clusterId: string; readonly region: string }) => boolean;
  /** Starts of other nodes, to be written down with the rest. */
  readonly starts: () => readonly AcceptedStart[];
  readonly log: Log;
}

/** What came back. */
export interface Warm {
  /** Wall clock ms at which what was restored was last known to be right. */
  readonly savedWallMs: number;
  /** Since when nodes of origins are away that were away then, by origin id; their clocks go on. */
  readonly absentWallMs: ReadonlyMap<string, number>;
  /** Origins that nobody writes any more. */
  readonly over: ReadonlySet<string>;
  /** Own live records that an `unregistered` of another origin hides: they are ended as soon as the mesh is open (`Endings.superseded`). */
  readonly superseded: readonly StoredRecord[];
  /** Starts of other nodes that were accepted last. */
  readonly starts: readonly AcceptedStart[];
}

/** Whether a node with this data directory was ever up to date with others. */
export function hasSnapshot(directory: string): boolean {
  return existsSync(join(directory, DATA_FILES.snapshot));
}

/** Whether a snapshot in this data directory tells of other nodes than this one; what cannot be read may. */
export async function isOthersInSnapshot(directory: string, nodeId: string): Promise<boolean> {
  const file = await readSnapshotFile(join(directory, DATA_FILES.snapshot), MAX_BYTES);
  if (file === undefined) return false;
  return nodesInSnapshot(file.bytes)?.every((each) => each === nodeId) !== true;
}

export class WarmStart {
  readonly #parts: WarmStartParts;
  readonly #stop = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();
  /** What the file says: nothing new, nothing to write. */
  #written = "";
  #isForeign = false;

  constructor(parts: WarmStartParts) {
    this.#parts = parts;
  }

  /** To be called once, after the journal is replayed and before anything is received; undefined when there is nothing of use. */
  async restore(): Promise<Warm | undefined> {
    const { replica, clusterId, hlc, log, maxClockSkewMs } = this.#parts;
    if (this.#path === undefined) return undefined;
    try {
      const file = await readSnapshotFile(this.#path, MAX_BYTES);
      if (file === undefined) return undefined;
      const startMonoMs = now().monoMs;
      const read = await inSlices(readSnapshot(file.bytes, { nodeId: replica.self.nodeId, clusterId }));
      if (!read.ok) return this.#ignore(read.fault);
      const restored = await inSlices(restoreSnapshot(read.snapshot, this.#parts, now()));
      const savedWallMs = Math.min(now().wallMs, Math.max(read.snapshot.header.savedWallMs, file.savedWallMs));
      hlc.merge(restored.maxHlc, now().wallMs, maxClockSkewMs);
      const { recordCount, refusedCount, absentWallMs, over, superseded } = restored;
      const [ageMs, tookMs] = [now().wallMs - savedWallMs, now().monoMs - startMonoMs].map(Math.round);
      log.info({ recordCount, refusedCount, ageMs, tookMs }, "what other nodes told is back from the snapshot");
      return { savedWallMs, absentWallMs, over, superseded, starts: read.snapshot.header.starts };
    } catch (error) {
      // A bug met half way through: nobody goes on with half a snapshot, and the next start does not meet it again.
      if (error instanceof BrokenInvariant) await setAsideSnapshotFile(this.#path);
      rethrowBroken(error);
      return this.#ignore(error instanceof Error ? error.message : String(error));
    }
  }

  /**
   * Writes a snapshot now and then. `rightWallMs` says when what is held was right: what was restored keeps its age while nobody is
   * there to catch up with. Undefined while it is about to change: then none is written.
   */
  start(intervalMs: number, stateOf: (origin: Origin) => SnapshotOrigin, rightWallMs: () => number | undefined): void {
    if (this.#path === undefined || intervalMs === 0 || this.#stop.signal.aborted) return;
    this.#timer = setTimeout(() => {
      const atMs = rightWallMs();
      const written = atMs === undefined ? Promise.resolve() : this.save(stateOf, atMs);
      this.#writing = written.then(() => this.start(intervalMs, stateOf, rightWallMs));
    }, intervalMs);
    this.#timer.unref();
  }

  /**
   * Writes a snapshot, or says that the one there is still right. Never rejects: what fails is logged, and tried again. `rightWallMs`: when
   * what is held was right, if that is not now.
   */
  async save(stateOf: (origin: Origin) => SnapshotOrigin, rightWallMs = now().wallMs): Promise<void> {
    const path = this.#path;
    if (path === undefined) return;
    const { replica, clusterId, log } = this.#parts;
    const { monoMs } = now();
    const starts = this.#parts.starts();
    const state = [...starts.map(({ nodeId, boot, address }) => `${nodeId} ${boot} ${address}`), stateText(replica, stateOf)].join("\n");
    try {
      if (this.#isForeign) await setAsideSnapshotFile(path);
      this.#isForeign = false;
      if (state === this.#written) {
        await touchSnapshotFile(path, rightWallMs);
        return;
      }
      const header = { nodeId: replica.self.nodeId, clusterId, savedWallMs: rightWallMs, starts };
      const blocks = snapshotBlocks(replica, header, stateOf);
      const sizeBytes = await writeSnapshotFile(path, blocks, { maxBytes: MAX_BYTES, signal: this.#stop.signal, rightWallMs });
      if (sizeBytes !== undefined) this.#written = state;
      else if (!this.#stop.signal.aborted) log.warn({ maxBytes: MAX_BYTES }, "no snapshot of what other nodes told: it is too large");
      log.debug({ sizeBytes, tookMs: Math.round(now().monoMs - monoMs) }, "snapshot of what other nodes told");
    } catch (error) {
      this.#written = "";
      log.warn({ err: error, path }, "no snapshot of what other nodes told");
    }
  }

  /** The last snapshot, when the node stops; given up after `timeoutMs`, and then what stands on disk stands. */
  async finish(stateOf: (origin: Origin) => SnapshotOrigin, rightWallMs: number, timeoutMs: number): Promise<void> {
    const timer = setTimeout(() => this.#stop.abort(), timeoutMs);
    clearTimeout(this.#timer);
    await this.#writing;
    if (!this.#stop.signal.aborted) await this.save(stateOf, rightWallMs);
    clearTimeout(timer);
  }

  /** Ends writing; what stands on disk stands. */
  async close(): Promise<void> {
    this.#stop.abort();
    clearTimeout(this.#timer);
    await this.#writing;
  }

  get #path(): string | undefined {
    const { directory } = this.#parts;
    return directory === undefined ? undefined : join(directory, DATA_FILES.snapshot);
  }

  /** What is of no use is left untouched until the first snapshot of this life is due, and then set aside. */
  #ignore(fault: string): undefined {
    this.#isForeign = true;
    this.#parts.log.warn({ path: this.#path, fault }, "the snapshot of what other nodes told is ignored; they tell it again");
    return undefined;
  }
}

function stateLine({ id, through, floor }: Origin, { life, isOver = false }: SnapshotOrigin): string {
  return `${id} ${through} ${floor} ${life} ${isOver}`;
}

/** Changes whenever a snapshot would. */
function stateText(replica: Replica, stateOf: (origin: Origin) => SnapshotOrigin): string {
  const others = [...replica.origins.values()].filter((origin) => origin !== replica.self);
  // Since when is left out: it comes from another clock, and wavers.
  const lines = others.map((origin) => stateLine(origin, stateOf(origin)));
  const lost = replica.lost.list.map(({ nodeId, generation, through, mark }) => {
    const id = `${nodeId}/${generation}`;
    return `${id} ${through} ${mark} ${replica.lost.keysOf(id)?.through ?? 0}`;
  });
  return [`${replica.forgotten.size}`, ...lost, ...lines].join("\n");
}

async function inSlices<T>(work: Generator<void, T>): Promise<T> {
  let untilMonoMs = now().monoMs + SLICE_MS;
  for (let step = work.next(); ; step = work.next()) {
    if (step.done === true) return step.value;
    if (now().monoMs < untilMonoMs) continue;
    await new Promise((resolve) => setImmediate(resolve));
    untilMonoMs = now().monoMs + SLICE_MS;
  }
}
