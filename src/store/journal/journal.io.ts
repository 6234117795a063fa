/** The journal as the rest of the node sees it: hands batches to the thread that owns the file, and never blocks. */
import { randomBytes, randomInt } from "node:crypto";
import type { Worker } from "node:worker_threads";
import { assert, WaymarkError } from "../../lib/errors.ts";
import { damageText, type FileProblem } from "../database-format.ts";
import { startThread } from "../thread.io.ts";
import type { JournalBatch, JournalPut, SeqNumbers } from "./format.ts";
import { decodeRows, encodeBatch, FORMAT_VERSION } from "./format.ts";
import type { Journal, JournalStats, Restored } from "./journal.ts";
import type { FileState, FromWorker, NumberedLease, OpenRequest, ToWorker } from "./thread.ts";

/** Batches waiting for the disk; one more is refused. A single batch is never too large. */
const MAX_QUEUED_BYTES = 64 << 20;
/** When a refused write is worth another try. */
const RETRY_MS = 1000;
const LATENCY_RING = 1024;
/** Chunks asked for before the first has come: the thread reads the next while this one is decoded. */
const REPLAY_AHEAD = 2;

export interface JournalLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface JournalOptions {
  readonly directory: string;
  /** From the settings; undefined to keep the directory's, or to invent one for a new directory. */
  readonly nodeId: string | undefined;
  readonly newNodeId: () => string;
  /** A positive integer never used before by this node. */
  readonly newGeneration: () => number;
  readonly forceNewGeneration: boolean;
  readonly log: JournalLog;
}

/**
 * Opens a data directory, creating it when it is missing, and keeps every other process out of it until closed.
 * Rejects with `store_unavailable`, nothing on disk changed, when the directory is in use, belongs to another node, was
 * written by a newer program or is damaged; `metadata.problem` tells which.
 */
export async function openJournal(options: JournalOptions): Promise<Journal> {
  const { directory, nodeId, forceNewGeneration } = options;
  const request: OpenRequest = {
    directory,
    nodeId,
    freshNodeId: options.newNodeId(),
    freshGeneration: options.newGeneration(),
    forceNewGeneration,
    boot: newBoot(),
    hashSeed: randomInt(2 ** 32),
  };
  const worker = startThread("journal");
  const first: ToWorker = { kind: "open", request };
  worker.postMessage(first, []);
  const { promise, resolve, reject } = Promise.withResolvers<FromWorker & { kind: "opened" }>();
  worker.once("error", reject);
  worker.once("message", (message: FromWorker) => {
    if (message.kind === "opened") resolve(message);
    else reject(message.kind === "refused" ? refusal(message, directory) : new Error(`the journal's thread began with ${message.kind}`));
  });
  const opened = await promise;
  worker.removeAllListeners("error");
  return new DiskJournal(worker, { ...opened, boot: request.boot }, options);
}

/** 64 bits of chance. */
function newBoot(): string {
  return randomBytes(8).toString("hex");
}

function refusal(message: { readonly problem: FileProblem; readonly message: string }, directory: string): WaymarkError {
  return new WaymarkError("store_unavailable", message.message, { metadata: { problem: message.problem, directory } });
}

interface Waiting {
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
  readonly rows: number;
  readonly bytes: number;
  readonly startMs: number;
}

interface Replay {
  readonly onRow: (row: JournalPut) => void;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

class DiskJournal implements Journal {
  readonly restored: Restored;
  readonly #worker: Worker;
  readonly #directory: string;
  readonly #log: JournalLog;
  readonly #leaseIds: Map<number, string>;
  /** In the order of the calls, which is the order of the answers. */
  readonly #waiting: Waiting[] = [];
  readonly #numbers = new Numbers();
  #queuedBytes = 0;
  #replay: Replay | undefined;
  /** Why nothing can be written any more. */
  #broken: WaymarkError | undefined;
  #closed: Promise<void> | undefined;

  constructor(worker: Worker, opened: FromWorker & { kind: "opened" } & { readonly boot: string }, options: JournalOptions) {
    const { meta, leases, earlierBoots, boot } = opened;
    this.#worker = worker;
    this.#directory = options.directory;
    this.#log = options.log;
    this.#leaseIds = new Map(leases.map((lease) => [lease.lease, lease.leaseId]));
    this.restored = { ...meta, leases: leases.map(withoutNumber), boot, earlierBoots };
    worker.on("message", (message: FromWorker) => this.#handle(message));
    worker.on("error", (error: Error) =>
      this.#break(new WaymarkError("store_unavailable", `the journal's thread failed: ${error.message}`, { cause: error })),
    );
    worker.on("exit", () => this.#break(new WaymarkError("store_unavailable", "the journal is closed")));
    this.#log.info(
      { directory: options.directory, generation: meta.generation, boots: meta.boots, leaseCount: leases.length },
      "journal opened",
    );
  }

  replay(onRow: (row: JournalPut) => void): Promise<void> {
    assert(this.#replay === undefined, "the journal was replayed twice");
    if (this.#broken !== undefined) return Promise.reject(this.#broken);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#replay = { onRow, resolve, reject };
    for (let i = 0; i < REPLAY_AHEAD; i++) this.#send({ kind: "next" });
    return promise;
  }

  write(batch: JournalBatch): Promise<void> {
    const refused = this.#refusal();
    if (refused !== undefined) return Promise.reject(refused);
    const encoded = encodeBatch(batch);
    return this.#ask({ kind: "write", batch: encoded }, { rows: batch.puts.length, bytes: encoded.byteLength }, [encoded]);
  }

  renewGeneration(generation: number, numbers?: SeqNumbers): Promise<void> {
    const refused = this.#refusal();
    if (refused !== undefined) return Promise.reject(refused);
    return this.#ask({ kind: "renew", generation, numbers }, { rows: 0, bytes: 0 });
  }

  nameStart(): Promise<void> {
    const refused = this.#refusal();
    if (refused !== undefined) return Promise.reject(refused);
    return this.#ask({ kind: "name" }, { rows: 0, bytes: 0 });
  }

  #refusal(): WaymarkError | undefined {
    if (this.#closed !== undefined || this.#broken !== undefined)
      return this.#broken ?? new WaymarkError("store_unavailable", "the journal is closing");
    if (this.#queuedBytes <= MAX_QUEUED_BYTES) return undefined;
    const message = `${this.#queuedBytes} bytes already wait for the disk, at most ${MAX_QUEUED_BYTES} may`;
    return new WaymarkError("store_unavailable", message, { retryMs: RETRY_MS });
  }

  #ask(message: ToWorker, size: { readonly rows: number; readonly bytes: number }, transfer: readonly ArrayBuffer[] = []): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push({ resolve, reject, ...size, startMs: performance.now() });
    this.#queuedBytes += size.bytes;
    this.#send(message, transfer);
    return promise;
  }

  stats(): JournalStats {
    return this.#numbers.stats(`${this.#directory}/journal.db`, this.#waiting.length);
  }

  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #close(): Promise<void> {
    if (this.#broken !== undefined) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#worker.once("exit", () => resolve());
    this.#send({ kind: "close" });
    return promise;
  }

  #send(message: ToWorker, transfer: readonly ArrayBuffer[] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  #handle(message: FromWorker): void {
    switch (message.kind) {
      case "rows":
        this.#rows(message.chunk);
        return;
      case "replayed":
        this.#numbers.state = message.state;
        this.#leaseIds.clear();
        this.#replay?.resolve();
        return;
      case "written":
        this.#written(message);
        return;
      case "failed":
        this.#failed(message);
        return;
      case "checkpointFailed":
        this.#numbers.lastError = message.message;
        this.#log.warn({ error: message.message }, "journal checkpoint failed, trying again later");
        return;
      case "refused":
        this.#break(refusal(message, this.#directory));
        return;
      case "opened":
        return; // Handled by `openJournal`.
    }
  }

  #rows(chunk: Uint8Array): void {
    const replay = this.#replay;
    if (replay === undefined || this.#closed !== undefined) return;
    this.#send({ kind: "next" });
    try {
      decodeRows(chunk, (lease) => this.#leaseIds.get(lease), replay.onRow);
    } catch (error) {
      replay.reject(error instanceof WaymarkError ? this.#damaged(error) : error instanceof Error ? error : new Error(String(error)));
    }
  }

  /** A row has its checksum and says what no version writes. */
  #damaged(cause: WaymarkError): WaymarkError {
    const message = damageText(`${this.#directory}/journal.db`, `a row cannot be read: ${cause.message}`);
    return new WaymarkError("store_unavailable", message, { cause, metadata: { problem: "corrupt", directory: this.#directory } });
  }

  #answered(): Waiting {
    const waiting = this.#waiting.shift();
    assert(waiting !== undefined, "the journal's thread answered a batch it was not given");
    this.#queuedBytes -= waiting.bytes;
    return waiting;
  }

  #written(answer: { readonly commitMs: number; readonly state: FileState }): void {
    const waiting = this.#answered();
    if (this.#numbers.isFailing) this.#log.info({ failureCount: this.#numbers.failures }, "journal takes writes again");
    this.#numbers.written(waiting, answer);
    waiting.resolve();
  }

  #failed(answer: { readonly message: string; readonly state: FileState }): void {
    const waiting = this.#answered();
    // Said once, not for each refused batch: /metrics/persistence has the count.
    if (!this.#numbers.isFailing) this.#log.error({ error: answer.message }, "journal refuses writes");
    this.#numbers.failed(answer);
    waiting.reject(new WaymarkError("store_unavailable", `the journal could not be written: ${answer.message}`, { retryMs: RETRY_MS }));
  }

  #break(error: WaymarkError): void {
    this.#broken ??= error;
    this.#replay?.reject(error);
    for (const waiting of this.#waiting.splice(0)) waiting.reject(error);
    this.#queuedBytes = 0;
  }
}

function withoutNumber({ leaseId, ttlMs, principal, idempotencyKey, grantedWallMs }: NumberedLease) {
  return { leaseId, ttlMs, principal, idempotencyKey, grantedWallMs };
}

/** What `/metrics/persistence` shows, as plain numbers. */
class Numbers {
  readonly #commitMs = new Float64Array(LATENCY_RING);
  #batches = 0;
  #rows = 0;
  #bytes = 0;
  #lastBatchMs = 0;
  failures = 0;
  isFailing = false;
  lastError = "";
  state: FileState = { rows: 0, fileBytes: 0, walBytes: 0 };

  written(batch: Waiting, answer: { readonly commitMs: number; readonly state: FileState }): void {
    this.#commitMs[this.#batches % LATENCY_RING] = answer.commitMs;
    this.#batches++;
    this.#rows += batch.rows;
    this.#bytes += batch.bytes;
    this.#lastBatchMs = performance.now() - batch.startMs;
    this.state = answer.state;
    this.isFailing = false;
  }

  failed(answer: { readonly message: string; readonly state: FileState }): void {
    this.failures++;
    this.isFailing = true;
    this.lastError = answer.message;
    this.state = answer.state;
  }

  stats(path: string, queueDepth: number): JournalStats {
    const sorted = this.#commitMs.slice(0, Math.min(this.#batches, LATENCY_RING)).toSorted();
    const quantile = (ratio: number) => sorted[Math.ceil(sorted.length * ratio) - 1] ?? 0;
    return {
      path,
      formatVersion: FORMAT_VERSION,
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

/** A journal without a disk (`--ephemeral`): every start is a new generation with nothing in it. */
export function openEphemeralJournal(options: Pick<JournalOptions, "nodeId" | "newNodeId" | "newGeneration">): Journal {
  const numbers = new Numbers();
  const restored: Restored = {
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
    stats: () => numbers.stats("", 0),
    close: () => Promise.resolve(),
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}
