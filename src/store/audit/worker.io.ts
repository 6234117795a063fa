/** The thread that owns the audit log's file: it writes, prunes, reads and checks, a slice at a time. */
import { auditLine } from "../../policy/audit/line.ts";
import type { AuditEvent, ChainPoint } from "../../policy/audit/record.ts";
import { type Owner, serveThread } from "../thread.io.ts";
import { AuditFile, type AuditFileOptions, type AuditScan } from "./file.io.ts";
import { AuditStream } from "./stream.io.ts";

/** How often old records are looked for while none are written. */
const PRUNE_EVERY_MS = 60_000;

/** What only this thread sees; sent along with answers. */
export interface AuditState {
  /** The newest record. */
  readonly head: ChainPoint;
  /** The newest record that was pruned; the chain starts after it. */
  readonly anchor: ChainPoint;
  /** Size of the file without room that is used again. */
  readonly usedBytes: number;
  /** Lines that could not be written to the JSON-lines file. */
  readonly fileLostCount: number;
  /** Why that file refused the last lines; empty when it took them, or when there is no file. */
  readonly fileFault: string;
  /** Whether lines are on their way to that file. */
  readonly isFileBusy: boolean;
}

export interface AuditOpen {
  readonly options: AuditFileOptions;
  /** The JSON-lines file; undefined without one. */
  readonly linesFile: string | undefined;
}

export class AuditThread implements Owner {
  readonly opened: { readonly state: AuditState; readonly isTailWhole: boolean; readonly hasLostLog: boolean };
  readonly #file: AuditFile;
  readonly #stream: AuditStream | undefined;
  readonly #pruning: NodeJS.Timeout;

  constructor({ options, linesFile }: AuditOpen) {
    this.#file = new AuditFile(options);
    this.#stream = linesFile === undefined ? undefined : new AuditStream(linesFile);
    this.#stream?.reopen();
    this.#prune();
    this.#pruning = setInterval(() => this.#prune(), PRUNE_EVERY_MS).unref();
    this.opened = { state: this.look(), isTailWhole: this.#file.isTailWhole(), hasLostLog: this.#file.hasLostLog };
  }

  append(events: readonly AuditEvent[]): AuditState {
    const records = this.#file.append(events);
    this.#stream?.write(records.map(auditLine));
    this.#prune();
    return this.look();
  }

  /** Searches a slice of the log; `nextBefore` says where to go on. */
  scan(scan: AuditScan) {
    return this.#file.scan(scan);
  }

  /** Checks a slice of the chain after `last`, up to `head`; both undefined at first. */
  verify({ last, head }: { readonly last: ChainPoint | undefined; readonly head: ChainPoint | undefined }) {
    return this.#file.verify(last, head);
  }

  hashOf(number: number) {
    return this.#file.hashOf(number);
  }

  /** Opens the JSON-lines file again, after it was moved away. */
  reopen(): void {
    this.#stream?.reopen();
  }

  look(): AuditState {
    const { head, anchor } = this.#file;
    const { lostCount = 0, fault = "", isBusy = false } = this.#stream ?? {};
    return { head, anchor, usedBytes: this.#file.usedBytes(), fileLostCount: lostCount, fileFault: fault, isFileBusy: isBusy };
  }

  close(): void {
    clearInterval(this.#pruning);
    this.#file.close();
    // The thread lives until the last line is written.
    void this.#stream?.close();
  }

  #prune(): void {
    try {
      this.#file.prune(Date.now());
    } catch {
      // The disk refuses: old records stay until it takes writes again, and batches that fail are reported.
    }
  }
}

serveThread((open: AuditOpen) => new AuditThread(open));
