/** Runs in the store thread and owns the journal's file. A slow fsync blocks this thread, but does not block client streams. */
import { WATERMARK_SYNC_MS } from "../commit-watermark.io.ts";
import { FileRefusedError, lockDatabase, messageOf, refusedBy } from "../database-file.io.ts";
import { type NotifyCaller, serving, type ThreadOwner, type TransferBuffer } from "../thread.io.ts";
import { createJournalFile, JOURNAL, JournalReader } from "./file.io.ts";
import type { JournalMeta, NumberedLease } from "./format.ts";
import { JournalIndex, JournalWriter } from "./writer.io.ts";

/** If the write-ahead log is larger than this, it is checkpointed in idle time. */
const IDLE_CHECKPOINT_BYTES = 1 << 20;
/** If the write-ahead log is larger than this, it is checkpointed immediately, so that its size is bounded. */
const FORCED_CHECKPOINT_BYTES = 16 << 20;
/** The thread is idle if it has received no batch for this time. */
const IDLE_MS = 100;

export interface OpenRequest {
  readonly directory: string;
  /** The node ID from the settings. If undefined, the ID that is stored in the directory is kept. */
  readonly nodeId: string | undefined;
  /** Used if the directory is new and the settings contain no ID. */
  readonly freshNodeId: string;
  /** Used if the directory is new or a new generation is forced. */
  readonly freshGeneration: number;
  readonly forceNewGeneration: boolean;
  /** The name of this process instance. */
  readonly boot: string;
  /** This seed prevents clients from choosing names with colliding hashes. */
  readonly hashSeed: number;
}

/** Sizes that are known only in this thread. The sizes are sent with each answer. */
export interface FileState {
  readonly rows: number;
  readonly fileBytes: number;
  readonly walBytes: number;
}

/** The result of a change. */
export interface CommitResult {
  /** The reason why the write failed. Undefined if the change is on disk. */
  readonly fault: string | undefined;
  readonly commitMs: number;
  readonly state: FileState;
}

/** The open directory. It is first read and then written to. */
export class JournalThread implements ThreadOwner {
  readonly opened: { readonly meta: JournalMeta; readonly leases: readonly NumberedLease[]; readonly earlierBoots: readonly string[] };
  readonly #request: OpenRequest;
  readonly #notify: NotifyCaller;
  readonly #index: JournalIndex;
  readonly #idle: NodeJS.Timeout;
  readonly #unlock: () => void;
  readonly #reader: JournalReader;
  #writer: JournalWriter | undefined;
  #meta: JournalMeta;
  /** Size of the write-ahead log in the last answer. */
  #answeredWalBytes = 0;

  /** Makes all checks for which it need not read each row. Throws `FileRefusedError`. */
  constructor(request: OpenRequest, notify: NotifyCaller) {
    this.#notify = notify;
    const { directory, nodeId, freshNodeId, freshGeneration, forceNewGeneration } = request;
    this.#request = request;
    this.#index = new JournalIndex(request.hashSeed);
    let unlock: (() => void) | undefined;
    let reader: JournalReader | undefined;
    try {
      unlock = lockDatabase(directory, JOURNAL);
      createJournalFile(directory, { nodeId: nodeId ?? freshNodeId, generation: freshGeneration, boots: 0, lastSeq: 0, floor: 0 });
      reader = new JournalReader(directory, { takesAsItIs: forceNewGeneration });
      const { meta, leases, earlierBoots } = reader;
      if (nodeId !== undefined && nodeId !== meta.nodeId) {
        throw new FileRefusedError(
          "other_node",
          `node.id is ${nodeId}, but data directory ${directory} belongs to node ${meta.nodeId}: change one of the two`,
        );
      }
      for (const lease of leases) this.#index.addLease(lease);
      this.#meta = { ...meta, generation: forceNewGeneration ? freshGeneration : meta.generation, boots: meta.boots + 1 };
      this.opened = { meta: this.#meta, leases, earlierBoots };
    } catch (error) {
      reader?.close();
      unlock?.();
      throw refusedBy(error, directory);
    }
    this.#unlock = unlock;
    this.#reader = reader;
    this.#idle = setTimeout(() => this.#tidy(), IDLE_MS).unref();
  }

  /** Returns the next rows, in one buffer. Undefined if there are no more rows; the file is then opened for writing. Throws `FileRefusedError`. */
  next(_request: undefined, move: TransferBuffer) {
    try {
      const rows = this.#writer === undefined ? this.#reader.next((...row) => this.#index.addRow(...row)) : undefined;
      if (rows === undefined && this.#writer === undefined) {
        this.#reader.close();
        this.#writer = new JournalWriter(this.#request.directory, this.#index);
        // This must be done before other nodes can receive the number or generation of this boot, because neither may ever be reused.
        this.#writer.begin(this.#meta);
      }
      move(rows?.buffer);
      return { rows, state: this.#state() };
    } catch (error) {
      throw refusedBy(error, this.#request.directory);
    }
  }

  write(batch: ArrayBuffer): CommitResult {
    return this.#change((writer) => writer.write(batch));
  }

  renew(generation: number): CommitResult {
    return this.#change((writer) => {
      const meta = { ...this.#meta, generation };
      writer.boot(meta);
      this.#meta = meta;
    });
  }

  nameStart(): CommitResult {
    return this.#change((writer) => writer.nameStart(this.#request.boot));
  }

  #change(act: (writer: JournalWriter) => void): CommitResult {
    const startMs = performance.now();
    let fault: string | undefined;
    if (this.#writer === undefined) fault = "the journal must be replayed before it is written to";
    else {
      try {
        act(this.#writer);
      } catch (error) {
        fault = messageOf(error);
        this.#tryHeal();
      }
    }
    return { fault, commitMs: performance.now() - startMs, state: this.#state() };
  }

  afterAnswer(): void {
    this.#idle.refresh();
    if (this.#answeredWalBytes > FORCED_CHECKPOINT_BYTES) this.#checkpoint();
    this.#writer?.syncWatermark(WATERMARK_SYNC_MS);
  }

  #tidy(): void {
    this.#writer?.syncWatermark();
    if (this.#writer?.needsHeal() === true) {
      if (!this.#tryHeal()) this.#idle.refresh();
    } else if ((this.#writer?.walBytes() ?? 0) > IDLE_CHECKPOINT_BYTES) {
      this.#checkpoint();
    }
  }

  #tryHeal(): boolean {
    try {
      this.#writer?.heal();
      return true;
    } catch {
      return false; // The disk is still failing. The batch's error has been reported. The next batch tries again, or the next idle time does.
    }
  }

  #checkpoint(): void {
    try {
      this.#writer?.checkpoint();
    } catch (error) {
      this.#notify(messageOf(error));
    }
  }

  #state(): FileState {
    const walBytes = this.#writer?.walBytes() ?? 0;
    this.#answeredWalBytes = walBytes;
    return { rows: this.#index.keys.size, fileBytes: this.#writer?.fileBytes() ?? 0, walBytes };
  }

  close(): void {
    clearTimeout(this.#idle);
    this.#reader.close();
    this.#writer?.close();
    this.#unlock();
  }
}

let thread: JournalThread | undefined;

export const serve = serving(
  (request: OpenRequest, notify) => {
    thread = new JournalThread(request, notify);
    return thread;
  },
  { endsOnFailure: true, afterAnswer: () => thread?.afterAnswer() },
);
