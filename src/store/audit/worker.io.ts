/** The thread that owns the audit log's file: writing, pruning, reading and checking all happen here, a slice at a time. */
import { assert } from "../../lib/errors.ts";
import { auditLine } from "../../policy/audit/line.ts";
import { type Served, serveThread } from "../thread-calls.io.ts";
import { AuditFile } from "./file.io.ts";
import { AuditStream } from "./stream.io.ts";
import type { AuditAnswer, AuditRequest, AuditState } from "./thread.ts";

/** How often the age of records is looked at when none are written. */
const PRUNE_EVERY_MS = 60_000;

let file: AuditFile | undefined;
let stream: AuditStream | undefined;
let pruning: NodeJS.Timeout | undefined;

function opened(): AuditFile {
  assert(file !== undefined, "the audit log was asked before it was open");
  return file;
}

function state(): AuditState {
  const { head, anchor } = opened();
  const { lostCount = 0, fault = "", isBusy = false } = stream ?? {};
  return { head, anchor, usedBytes: opened().usedBytes(), fileLostCount: lostCount, fileFault: fault, isFileBusy: isBusy };
}

function prune(): void {
  try {
    file?.prune(Date.now());
  } catch {
    // The disk refuses: what is too old stays until it takes writes again, and the batches that fail are reported.
  }
}

function serve(request: AuditRequest): Served<AuditAnswer> {
  switch (request.kind) {
    case "open":
      file = new AuditFile(request.options);
      if (request.file !== undefined) stream = new AuditStream(request.file);
      stream?.reopen();
      prune();
      pruning = setInterval(prune, PRUNE_EVERY_MS).unref();
      return { answer: { kind: "opened", state: state(), isTailWhole: file.isTailWhole(), hasLostLog: file.hasLostLog } };
    case "append": {
      const records = opened().append(request.events);
      stream?.write(records.map(auditLine));
      prune();
      return { answer: { kind: "appended", state: state() } };
    }
    case "scan":
      return { answer: { kind: "scanned", ...opened().scan(request.scan) } };
    case "verify":
      return { answer: { kind: "verified", ...opened().verify(request.last, request.head) } };
    case "find":
      return { answer: { kind: "foundHash", hash: opened().hashOf(request.number) } };
    case "reopen":
      stream?.reopen();
      return { answer: { kind: "reopened" } };
    case "look":
      return { answer: { kind: "looked", state: state() } };
    case "close":
      clearInterval(pruning);
      file?.close();
      // The thread lives until the last line is written.
      void stream?.close();
      return { answer: { kind: "closed" }, isLast: true };
  }
}

serveThread(serve);
