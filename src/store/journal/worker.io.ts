/** The thread that owns the journal's file: a slow fsync stops this thread and no stream. */
import { assert } from "../../lib/errors.ts";
import { FileRefused, lockDatabase, messageOf, refusedBy } from "../database-file.io.ts";
import { type Move, notify, serveThread } from "../thread.io.ts";
import { createJournalFile, JOURNAL, JournalReader } from "./file.io.ts";
import type { JournalMeta, SeqNumbers } from "./format.ts";
import { JournalIndex, JournalWriter } from "./writer.io.ts";

/** A log of more bytes is checkpointed in idle time. */
const IDLE_CHECKPOINT_BYTES = 1 << 20;
/** A log of more bytes is checkpointed at once, which bounds it. */
const FORCED_CHECKPOINT_BYTES = 16 << 20;
/** The thread is idle when no batch has come for this long. */
const IDLE_MS = 100;

export interface OpenRequest {
  readonly directory: string;
  /** From the settings; undefined to keep the directory's. */
  readonly nodeId: string | undefined;
  /** Used when the directory is new and the settings name none. */
  readonly freshNodeId: string;
  /** Used when the directory is new or a new generation is forced. */
  readonly freshGeneration: number;
  readonly forceNewGeneration: boolean;
  /** The name of this start. */
  readonly boot: string;
  /** Keeps clients from choosing names that collide. */
  readonly hashSeed: number;
}

/** Sizes that only this thread sees; sent along with answers. */
export interface FileState {
  readonly rows: number;
  readonly fileBytes: number;
  readonly walBytes: number;
}

/** What became of a change. */
export interface Change {
  /** Why the disk refused it; undefined when it is on disk. */
  readonly fault: string | undefined;
  readonly commitMs: number;
  readonly state: FileState;
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
  open() {
    const { directory, nodeId, freshNodeId, freshGeneration, forceNewGeneration } = this.#request;
    this.#unlock = lockDatabase(directory, JOURNAL);
    createJournalFile(directory, { nodeId: nodeId ?? freshNodeId, generation: freshGeneration, boots: 0, lastSeq: 0, floor: 0 });
    const reader = new JournalReader(directory, { takesAsItIs: forceNewGeneration });
    this.#reader = reader;
    const { meta, leases, earlierBoots } = reader;
    if (nodeId !== undefined && nodeId !== meta.nodeId) {
      throw new FileRefused(
        "other_node",
        `the settings say node ${nodeId}, but data directory ${directory} belongs to node ${meta.nodeId}: change one of the two`,
      );
    }
    for (const lease of leases) this.#index.addLease(lease);
    this.#meta = { ...meta, generation: forceNewGeneration ? freshGeneration : meta.generation, boots: meta.boots + 1 };
    return { meta: this.#meta, leases, earlierBoots };
  }

  /** The next rows, one after the other in one buffer; undefined at the end, where the file is opened for writing. */
  next() {
    const rows = this.#writer === undefined ? this.#reader?.next((row) => this.#index.addRow(row)) : undefined;
    if (rows === undefined && this.#writer === undefined && this.#meta !== undefined) {
      this.#reader?.close();
      this.#writer = new JournalWriter(this.#request.directory, this.#index);
      // Before others can see this boot's number or generation, which must never be used again.
      this.#writer.begin(this.#meta);
    }
    return { rows, state: this.#state() };
  }

  renew(generation: number, numbers: SeqNumbers | undefined): Change {
    return this.change((writer) => {
      if (this.#meta === undefined) return;
      const meta = { ...this.#meta, generation, ...numbers };
      writer.boot(meta, numbers);
      this.#meta = meta;
    });
  }

  nameStart(): Change {
    return this.change((writer) => writer.nameStart(this.#request.boot));
  }

  change(act: (writer: JournalWriter) => void): Change {
    const startMs = performance.now();
    let fault: string | undefined;
    if (this.#writer === undefined) fault = "the journal was not replayed before it was written to";
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
      return false; // The disk still refuses. The batch's own error was reported, and the next batch or idle moment tries again.
    }
  }

  #checkpoint(): void {
    try {
      this.#writer?.checkpoint();
    } catch (error) {
      notify(messageOf(error));
    }
  }

  #state(): FileState {
    return { rows: this.#index.keys.size, fileBytes: this.#writer?.fileBytes() ?? 0, walBytes: this.#writer?.walBytes() ?? 0 };
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
let directory = "";

function opened(): JournalThread {
  assert(thread !== undefined, "the journal was asked before it was open");
  return thread;
}

/** Turns every error of `act` into the refusal of the directory. */
function refusing<T>(act: () => T): T {
  try {
    return act();
  } catch (error) {
    throw refusedBy(error, directory);
  }
}

const methods = {
  open(request: OpenRequest) {
    ({ directory } = request);
    return refusing(() => {
      thread = new JournalThread(request);
      return thread.open();
    });
  },
  next(_request: undefined, move: Move) {
    const found = refusing(() => opened().next());
    move(found.rows?.buffer);
    return found;
  },
  write(batch: ArrayBuffer) {
    return opened().change((writer) => writer.write(batch));
  },
  renew({ generation, numbers }: { readonly generation: number; readonly numbers: SeqNumbers | undefined }) {
    return opened().renew(generation, numbers);
  },
  nameStart() {
    return opened().nameStart();
  },
  close() {
    thread?.close();
  },
};

export type JournalMethods = typeof methods;

serveThread(methods, { endsOnFailure: true, afterAnswer: () => thread?.afterAnswer() });
