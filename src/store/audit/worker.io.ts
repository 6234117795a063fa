/** The thread that owns the audit log's file: it writes, prunes, reads and checks, a slice at a time. */
import { assert } from "../../lib/errors.ts";
import { auditLine } from "../../policy/audit/line.ts";
import type { AuditEvent, ChainPoint } from "../../policy/audit/record.ts";
import { serveThread } from "../thread.io.ts";
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

let file: AuditFile | undefined;
let stream: AuditStream | undefined;
let pruning: NodeJS.Timeout | undefined;

function opened(): AuditFile {
  assert(file !== undefined, "the audit log was asked before it was open");
  return file;
}

function look(): AuditState {
  const { head, anchor } = opened();
  const { lostCount = 0, fault = "", isBusy = false } = stream ?? {};
  return { head, anchor, usedBytes: opened().usedBytes(), fileLostCount: lostCount, fileFault: fault, isFileBusy: isBusy };
}

function prune(): void {
  try {
    file?.prune(Date.now());
  } catch {
    // The disk refuses: old records stay until it takes writes again, and batches that fail are reported.
  }
}

const methods = {
  open({ options, linesFile }: { readonly options: AuditFileOptions; readonly linesFile: string | undefined }) {
    file = new AuditFile(options);
    if (linesFile !== undefined) stream = new AuditStream(linesFile);
    stream?.reopen();
    prune();
    pruning = setInterval(prune, PRUNE_EVERY_MS).unref();
    return { state: look(), isTailWhole: file.isTailWhole(), hasLostLog: file.hasLostLog };
  },
  append(events: readonly AuditEvent[]) {
    const records = opened().append(events);
    stream?.write(records.map(auditLine));
    prune();
    return look();
  },
  /** Searches a slice of the log; `nextBefore` says where to go on. */
  scan(scan: AuditScan) {
    return opened().scan(scan);
  },
  /** Checks a slice of the chain after `last`, up to `head`; both undefined at first. */
  verify({ last, head }: { readonly last: ChainPoint | undefined; readonly head: ChainPoint | undefined }) {
    return opened().verify(last, head);
  },
  hashOf(number: number) {
    return opened().hashOf(number);
  },
  /** Opens the JSON-lines file again, after it was moved away. */
  reopen() {
    stream?.reopen();
  },
  look,
  close() {
    clearInterval(pruning);
    file?.close();
    // The thread lives until the last line is written.
    void stream?.close();
  },
};

export type AuditMethods = typeof methods;

serveThread(methods);
