/** The journal's interface to the rest of the node: it passes batches to the thread that owns the file, and never blocks. */
import { randomBytes, randomInt } from "node:crypto";
import type { BatchLease, RestoredPut, WriteBatch } from "../../catalog/batch.ts";
import { assert, WaymarkError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import { damageText, STORED_FORMAT } from "../database-file.io.ts";
import { ThreadCalls } from "../thread.io.ts";
import { decodeRows, encodeBatch, type NumberedLease } from "./format.ts";
import type { Journal, JournalStats, RestoredJournal } from "./journal.ts";
import type { CommitResult, FileState, JournalThread, OpenRequest } from "./worker.io.ts";

/**
 * Maximum number of bytes that wait for the disk. If more are waiting, the next batch is rejected. A single batch is never rejected because of its
 * size.
 */
const MAX_QUEUED_BYTES = 64 << 20;
/** Suggested time to wait before retrying a rejected write. */
const RETRY_MS = 1000;
/** Number of commits that the latency statistics include. */
const LATENCY_RING = 1024;
/** Number of chunks requested in advance, so that the thread reads the next chunk while the current one is being decoded. */
const REPLAY_AHEAD = 2;

export interface JournalOptions {
  readonly directory: string;
  /** The node ID from the settings. If it is undefined, the ID stored in the directory is used. For a new directory, `newNodeId` returns the ID. */
  readonly nodeId: string | undefined;
  readonly newNodeId: () => string;
  /** Returns a positive integer that this node has never used before. */
  readonly newGeneration: () => number;
  readonly forceNewGeneration: boolean;
  readonly log: Pick<Log, "info" | "warn" | "error">;
}

/**
 * Opens a data directory, creating it if it is missing, and locks it against other processes until the journal is closed. Rejects with
 * `store_unavailable`, without changes on disk, if the directory is in use, is damaged, belongs to another node, or was written by a newer program;
 * `metadata.problem` contains the reason.
 */
export async function openJournal(options: JournalOptions): Promise<Journal> {
  const { directory, nodeId, forceNewGeneration, log } = options;
  const numbers = new JournalNumbers();
  const calls: JournalCalls = new ThreadCalls("journal", (message) => {
    numbers.lastError = withoutPlace(message, directory);
    log.warn({ error: message }, "journal checkpoint failed, retrying later");
  });
  const boot = newBoot();
  const { meta, leases, earlierBoots } = await calls.open({
    directory,
    nodeId,
    freshNodeId: options.newNodeId(),
    freshGeneration: options.newGeneration(),
    forceNewGeneration,
    boot,
    hashSeed: randomInt(2 ** 32),
  });
  log.info({ directory, generation: meta.generation, boots: meta.boots, leaseCount: leases.length }, "journal opened");
  const restored: RestoredJournal = { ...meta, leases: leases.map(withoutNumber), boot, earlierBoots };
  return new DiskJournal({ calls, numbers, restored, leases }, options);
}

/** Returns an error message for callers, without the path of the data directory. The node's log contains the path. */
function withoutPlace(fault: string, directory: string): string {
  return fault.replaceAll(directory, "persistence.data_dir");
}

/** 64 random bits. */
function newBoot(): string {
  return randomBytes(8).toString("hex");
}

type JournalCalls = ThreadCalls<JournalThread, OpenRequest>;

/** The resources that a batch uses while it waits for the disk. */
interface BatchSize {
  readonly rows: number;
  readonly bytes: number;
}

interface OpenJournalParts {
  readonly calls: JournalCalls;
  readonly numbers: JournalNumbers;
  readonly restored: RestoredJournal;
  readonly leases: readonly NumberedLease[];
}

class DiskJournal implements Journal {
  readonly restored: RestoredJournal;
  readonly #calls: JournalCalls;
  readonly #options: JournalOptions;
  /** The IDs of leases by number, for replaying rows. */
  readonly #leaseIds: Map<number, string>;
  readonly #numbers: JournalNumbers;
  #isReplayed = false;
  #queuedBatches = 0;
  #queuedBytes = 0;
  #closed: Promise<void> | undefined;

  constructor({ calls, numbers, restored, leases }: OpenJournalParts, options: JournalOptions) {
    this.#calls = calls;
    this.#numbers = numbers;
    this.restored = restored;
    this.#options = options;
    this.#leaseIds = new Map(leases.map(({ lease, leaseId }) => [lease, leaseId]));
  }

  async replay(onRow: (row: RestoredPut) => void): Promise<void> {
    assert(!this.#isReplayed, "the journal was replayed twice");
    this.#isReplayed = true;
    const ahead = Array.from({ length: REPLAY_AHEAD }, () => this.#next());
    for (let chunk = ahead.shift(); chunk !== undefined; chunk = ahead.shift()) {
      const { rows, state } = await chunk;
      this.#numbers.state = state;
      if (rows === undefined) break;
      if (this.#closed !== undefined) throw new WaymarkError("store_unavailable", "the journal is closing");
      ahead.push(this.#next());
      this.#decode(rows, onRow);
    }
    this.#leaseIds.clear();
  }

  #next() {
    const chunk = this.#calls.call("next");
    // The replay may end before it has awaited this chunk.
    chunk.catch(() => {});
    return chunk;
  }

  #decode(rows: Uint8Array, onRow: (row: RestoredPut) => void): void {
    try {
      decodeRows(rows, (lease) => this.#leaseIds.get(lease), onRow);
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      // The row has a valid checksum, but content that no version of Waymark writes.
      const message = damageText(`${this.#options.directory}/journal.db`, `a row cannot be read: ${error.message}`);
      throw new WaymarkError("store_unavailable", message, { cause: error, metadata: { problem: "corrupt" } });
    }
  }

  async write(batch: WriteBatch): Promise<void> {
    this.#checkRoom();
    const encoded = encodeBatch(batch);
    await this.#changed(this.#calls.call("write", encoded, [encoded]), { rows: batch.puts.length, bytes: encoded.byteLength });
  }

  async renewGeneration(generation: number): Promise<void> {
    this.#checkRoom();
    await this.#changed(this.#calls.call("renew", generation));
  }

  async nameStart(): Promise<void> {
    this.#checkRoom();
    await this.#changed(this.#calls.call("nameStart"));
  }

  #checkRoom(): void {
    if (this.#closed !== undefined) throw new WaymarkError("store_unavailable", "the journal is closing");
    if (this.#queuedBytes <= MAX_QUEUED_BYTES) return;
    const message = `${this.#queuedBytes} bytes are already queued for the disk; at most ${MAX_QUEUED_BYTES} are allowed`;
    throw new WaymarkError("store_unavailable", message, { retryMs: RETRY_MS });
  }

  /** Waits for a change to be written, and counts it. Rejects with `store_unavailable` if the write fails. */
  async #changed(change: Promise<CommitResult>, size: BatchSize = { rows: 0, bytes: 0 }): Promise<void> {
    const startMs = performance.now();
    this.#queuedBatches++;
    this.#queuedBytes += size.bytes;
    try {
      const { fault, commitMs, state } = await change;
      const wasFailing = this.#numbers.isFailing;
      this.#numbers.state = state;
      if (fault === undefined) {
        if (wasFailing) this.#options.log.info({ failureCount: this.#numbers.failures }, "journal is accepting writes again");
        this.#numbers.written(size, { commitMs, batchMs: performance.now() - startMs });
        return;
      }
      // The failure is logged only once, and not for each rejected batch. /metrics/persistence has the number of rejected batches.
      if (!wasFailing) this.#options.log.error({ error: fault }, "journal is rejecting writes");
      const publicFault = withoutPlace(fault, this.#options.directory);
      this.#numbers.failed(publicFault);
      throw new WaymarkError("store_unavailable", `the journal could not be written: ${publicFault}`, { retryMs: RETRY_MS });
    } finally {
      this.#queuedBatches--;
      this.#queuedBytes -= size.bytes;
    }
  }

  stats(): JournalStats {
    return this.#numbers.stats(this.#queuedBatches);
  }

  close(): Promise<void> {
    this.#closed ??= this.#calls.close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function withoutNumber({ lease: _lease, ...lease }: NumberedLease): BatchLease {
  return lease;
}

/** Returns the numbers for `/metrics/persistence`. */
class JournalNumbers {
  readonly #commitMs = new Float64Array(LATENCY_RING);
  #batches = 0;
  #rows = 0;
  #bytes = 0;
  #lastBatchMs = 0;
  failures = 0;
  isFailing = false;
  lastError = "";
  state: FileState = { rows: 0, fileBytes: 0, walBytes: 0 };

  written({ rows, bytes }: BatchSize, { commitMs, batchMs }: { readonly commitMs: number; readonly batchMs: number }): void {
    this.#commitMs[this.#batches % LATENCY_RING] = commitMs;
    this.#batches++;
    this.#rows += rows;
    this.#bytes += bytes;
    this.#lastBatchMs = batchMs;
    this.isFailing = false;
  }

  failed(fault: string): void {
    this.failures++;
    this.isFailing = true;
    this.lastError = fault;
  }

  stats(queueDepth: number): JournalStats {
    const sorted = this.#commitMs.slice(0, Math.min(this.#batches, LATENCY_RING)).toSorted();
    const quantile = (ratio: number) => sorted[Math.ceil(sorted.length * ratio) - 1] ?? 0;
    return {
      formatVersion: STORED_FORMAT,
      batches: this.#batches,
      rows: this.#rows,
      bytes: this.#bytes,
      heldRows: this.state.rows,
      lastBatchMs: this.#lastBatchMs,
      commitP50Ms: quantile(0.5),
      commitP99Ms: quantile(0.99),
      failures: this.failures,
      queueDepth,
      fileBytes: this.state.fileBytes,
      walBytes: this.state.walBytes,
      lastError: this.lastError,
      isFailing: this.isFailing,
    };
  }
}

/** Opens a journal without a disk (`--ephemeral`): each start begins a new, empty generation. */
export function openEphemeralJournal(options: Pick<JournalOptions, "nodeId" | "newNodeId" | "newGeneration">): Journal {
  const numbers = new JournalNumbers();
  const restored: RestoredJournal = {
    nodeId: options.nodeId ?? options.newNodeId(),
    generation: options.newGeneration(),
    lastSeq: 0,
    floor: 0,
    leases: [],
    boots: 1,
    boot: newBoot(),
    earlierBoots: undefined,
  };
  return {
    restored,
    replay: () => Promise.resolve(),
    write: () => Promise.resolve(),
    renewGeneration: () => Promise.resolve(),
    nameStart: () => Promise.resolve(),
    stats: () => numbers.stats(0),
    close: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
