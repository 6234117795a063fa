/** The thread that owns the journal's file: a slow fsync stops this thread and no stream. */
import { parentPort } from "node:worker_threads";
import { FileRefused, lockDatabase, messageOf, refusedBy } from "../database-file.io.ts";
import { createJournalFile, JOURNAL, JournalReader } from "./file.io.ts";
import type { SeqNumbers } from "./format.ts";
import type { FileState, FromWorker, JournalMeta, OpenRequest, ToWorker } from "./thread.ts";
import { JournalIndex, JournalWriter } from "./writer.io.ts";

/** A checkpoint is due in idle time when the log holds more than this… */
const IDLE_CHECKPOINT_BYTES = 1 << 20;
/** …and whatever waits when it holds more than this, which bounds it. */
const FORCED_CHECKPOINT_BYTES = 16 << 20;
/** How long no batch may have come for the thread to count as idle. */
const IDLE_MS = 100;

const port = parentPort ?? failOutsideThread();

function failOutsideThread(): never {
  throw new Error("the journal's thread was started as a program");
}

function answer(message: FromWorker, transfer: readonly ArrayBuffer[] = []): void {
  port.postMessage(message, transfer);
}

/** The open directory: first read, then written to. */
class JournalThread {
  readonly #request: OpenRequest;
  readonly #index: JournalIndex;
  readonly #idle: NodeJS.Timeout;
  #unlock: (() => void) | undefined;
  #reader: JournalReader | undefined;
  #writer: JournalWriter | undefined;
  #meta: JournalMeta | undefined;

  constructor(request: OpenRequest) {
    this.#request = request;
    this.#index = new JournalIndex(request.hashSeed);
    this.#idle = setTimeout(() => this.#tidy(), IDLE_MS).unref();
  }

  /** Checks everything that can be checked without reading each row. */
  open(): FromWorker {
    const { directory, nodeId } = this.#request;
    this.#unlock = lockDatabase(directory, JOURNAL);
    this.#create();
    const reader = new JournalReader(directory, { takesAsItIs: this.#request.forceNewGeneration });
    this.#reader = reader;
    const { meta, leases, earlierBoots } = reader;
    if (nodeId !== undefined && nodeId !== meta.nodeId) {
      throw new FileRefused(
        "other_node",
        `the settings say node ${nodeId}, but data directory ${directory} belongs to node ${meta.nodeId}: change one of the two`,
      );
    }
    for (const lease of leases) this.#index.addLease(lease);
    const generation = this.#request.forceNewGeneration ? this.#request.freshGeneration : meta.generation;
    this.#meta = { ...meta, generation, boots: meta.boots + 1 };
    return { kind: "opened", meta: this.#meta, leases, earlierBoots };
  }

  #create(): void {
    const { directory, nodeId, freshNodeId, freshGeneration } = this.#request;
    createJournalFile(directory, { nodeId: nodeId ?? freshNodeId, generation: freshGeneration, boots: 0, lastSeq: 0, floor: 0 });
  }

  /** The next rows; at the end the file is opened for writing. */
  next(): FromWorker {
    const chunk = this.#writer === undefined ? this.#reader?.next((row) => this.#index.addRow(row)) : undefined;
    if (chunk !== undefined) return { kind: "rows", chunk };
    this.#startWriting();
    return { kind: "replayed", state: this.#state() };
  }

  #startWriting(): JournalWriter {
    if (this.#writer !== undefined) return this.#writer;
    this.#reader?.close();
    const writer = new JournalWriter(this.#request.directory, this.#index);
    this.#writer = writer;
    // Before anybody can see this boot's number or generation: neither may be used a second time.
    if (this.#meta !== undefined) writer.begin(this.#meta);
    return writer;
  }

  write(batch: ArrayBuffer): FromWorker {
    return this.#change((writer) => writer.write(batch));
  }

  renew(generation: number, numbers: SeqNumbers | undefined): FromWorker {
    return this.#change((writer) => {
      if (this.#meta === undefined) return;
      const meta = { ...this.#meta, generation, ...numbers };
      writer.boot(meta, numbers);
      this.#meta = meta;
    });
  }

  nameStart(): FromWorker {
    return this.#change((writer) => writer.nameStart(this.#request.boot));
  }

  #change(act: (writer: JournalWriter) => void): FromWorker {
    if (this.#writer === undefined)
      return { kind: "failed", message: "the journal was not replayed before it was written to", state: this.#state() };
    const startMs = performance.now();
    try {
      act(this.#writer);
    } catch (error) {
      this.#tryHeal();
      return { kind: "failed", message: messageOf(error), state: this.#state() };
    }
    return { kind: "written", commitMs: performance.now() - startMs, state: this.#state() };
  }

  /** Called after each answer. */
  afterWrite(): void {
    this.#idle.refresh();
    if ((this.#writer?.walBytes() ?? 0) > FORCED_CHECKPOINT_BYTES) this.#checkpoint();
  }

  #tidy(): void {
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
      return false; // The disk still refuses; the batch's own error has been reported, and the next batch or idle moment tries again.
    }
  }

  #checkpoint(): void {
    try {
      this.#writer?.checkpoint();
    } catch (error) {
      answer({ kind: "checkpointFailed", message: messageOf(error) });
    }
  }

  #state(): FileState {
    return { rows: this.#index.keys.size, fileBytes: this.#writer?.fileBytes() ?? 0, walBytes: this.#writer?.walBytes() ?? 0 };
  }

  /** Lets go of everything, after an error that leaves nothing to be served. */
  refuse(error: unknown): FromWorker {
    this.close();
    const { problem, message } = refusedBy(error, this.#request.directory);
    return { kind: "refused", problem, message };
  }

  close(): void {
    clearTimeout(this.#idle);
    this.#reader?.close();
    this.#writer?.close();
    this.#unlock?.();
    this.#unlock = undefined;
  }
}

let thread: JournalThread | undefined;

function serve(message: ToWorker): void {
  switch (message.kind) {
    case "open":
      thread = new JournalThread(message.request);
      answer(thread.open());
      return;
    case "next": {
      const reply = thread?.next();
      if (reply !== undefined) answer(reply, reply.kind === "rows" ? [reply.chunk.buffer] : []);
      return;
    }
    case "write":
      if (thread !== undefined) answer(thread.write(message.batch));
      thread?.afterWrite();
      return;
    case "renew":
      if (thread !== undefined) answer(thread.renew(message.generation, message.numbers));
      thread?.afterWrite();
      return;
    case "name":
      if (thread !== undefined) answer(thread.nameStart());
      thread?.afterWrite();
      return;
    case "close":
      thread?.close();
      port.close();
  }
}

port.on("message", (message: ToWorker) => {
  try {
    serve(message);
  } catch (error) {
    answer(thread?.refuse(error) ?? { kind: "refused", problem: "unreadable", message: messageOf(error) });
    port.close();
  }
});
