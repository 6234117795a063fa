/** The interface of the audit log for the rest of the node. It accepts events without blocking, and reports when they are on disk. */
import { equalBytes } from "../../lib/crypto.ts";
import { rethrowInvariant, WaymarkError } from "../../lib/errors.ts";
import type { Log } from "../../lib/log.io.ts";
import type { Metrics } from "../../lib/metrics/metrics.ts";
import type { ChainProblem } from "../../policy/audit/chain.ts";
import type { AuditFilter } from "../../policy/audit/filter.ts";
import { AuditQueue, LOSS } from "../../policy/audit/queue.ts";
import { type AuditEvent, type AuditRecord, type AuditSink, boundEvent, type ChainPoint } from "../../policy/audit/record.ts";
import { messageOf } from "../database-file.io.ts";
import { ThreadCalls } from "../thread.io.ts";
import type { AuditFile, AuditFileOptions, AuditScan, AuditState } from "./file.io.ts";

/** Maximum number of events that wait for the disk. Further events are lost and counted, and the loss is recorded in the log. */
const MAX_PENDING = 10_000;
/** Maximum number of events in one transaction. When this many events are queued, a transaction starts immediately. */
const MAX_BATCH = 1000;
/** Time for which an event waits for other events that can share its fsync, unless a caller is waiting for the event. */
const GATHER_MS = 50;
/** Time to wait after a failed write. */
const RETRY_MS = 1000;
const MAX_PAGE_RECORDS = 1000;
/**
 * A page ends with the record that reaches this size. Even with the largest record, a page is well below the default limit of clients (4 MiB).
 */
const MAX_PAGE_BYTES = 1024 * 1024;
/** Time after a batch at which the log checks whether its lines were written. */
const LOOK_MS = 500;
/** Interval at which the node logs that the file cannot be written to. */
const LOG_EVERY_MS = 60_000;

/** If there is no directory, the log's thread starts with the first event. */
export interface AuditLogOptions extends AuditFileOptions {
  readonly metrics: Metrics;
  readonly log: Pick<Log, "info" | "error">;
}

export interface AuditRead {
  /** Only records with lower numbers. Used to read the next page. */
  readonly before?: number | undefined;
  /** Maximum number of records on the page, from 1 to 1000. A page with large records contains fewer, because it ends at 1 MiB. */
  readonly limit: number;
  readonly filter: AuditFilter;
}

export interface AuditPage {
  /** Newest first. */
  readonly records: readonly AuditRecord[];
  /** The next page contains the records before this number. Undefined on the last page. */
  readonly nextBefore: number | undefined;
}

export interface AuditCheck {
  /** The first fault. Undefined if every record is as it was written. */
  readonly problem: ChainProblem | undefined;
  readonly checkedCount: number;
  /** The point after which the chain was checked. */
  readonly anchor: ChainPoint;
  /** The point up to which the chain was checked. Store this point elsewhere, and pass it to a later check. */
  readonly head: ChainPoint;
}

/**
 * Opens `audit.db` in a directory, creating missing files, and locks it against other processes until it is closed. The existing chain is continued.
 * Rejects with `store_unavailable`, without changes on disk, if the file is in use, was written by a newer program, or is damaged; `metadata.problem`
 * contains the reason. If the chain was tampered with, the log is still opened, and `verify` reports the position.
 */
export async function openAuditLog(options: AuditLogOptions): Promise<AuditLog> {
  const log = new AuditLog(options);
  if (options.directory !== undefined) await log.open();
  return log;
}

type AuditCalls = ThreadCalls<AuditFile, AuditFileOptions>;

interface FlushWaiter {
  /** The waiting caller is answered when this many events have been written. */
  readonly takenCount: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** The open log, created by `openAuditLog`. */
export class AuditLog implements AuditSink, AsyncDisposable {
  readonly #options: AuditLogOptions;
  readonly #metrics: Metrics;
  readonly #queue = new AuditQueue(MAX_PENDING);
  readonly #followers = new Set<() => void>();
  #waiters: FlushWaiter[] = [];
  #calls: Promise<AuditCalls> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #isWriting = false;
  /** The reason why the last batch could not be written. Undefined if the batch was written. */
  #refusal: string | undefined;
  #looking: NodeJS.Timeout | undefined;
  #fileFault = "";
  /** Time at which the node last logged that the file cannot be written to. Undefined while the file can be written to. */
  #fileLoggedMs: number | undefined;
  #closed: Promise<void> | undefined;

  constructor(options: AuditLogOptions) {
    this.#options = options;
    this.#metrics = options.metrics;
    options.metrics.onCollect(() => options.metrics.set("waymark_audit_pending_records", {}, this.#queue.pendingCount));
  }

  /** Starts the thread and opens the file, unless this has already been done. */
  open(): Promise<AuditCalls> {
    this.#calls ??= this.#open();
    return this.#calls;
  }

  /** Describes, for operators, why records are queued or lines are lost. Empty without a fault. */
  get fault(): string {
    if (this.#refusal !== undefined) return `records cannot be written and are queued: ${this.#refusal}`;
    return this.#fileFault === "" ? "" : `audit.file cannot be written, so lines are lost: ${this.#fileFault}`;
  }

  record(event: AuditEvent): void {
    if (this.#closed !== undefined || this.#queue.push(boundEvent(event)) === "lost") {
      this.#metrics.inc("waymark_audit_lost_total", {});
      return;
    }
    this.#metrics.inc("waymark_audit_records_total", { kind: event.kind, outcome: event.outcome });
    if (this.#queue.pendingCount >= MAX_BATCH && this.#refusal === undefined) this.#startWriting();
    else this.#writeIn(GATHER_MS);
  }

  durable(): Promise<void> {
    if (this.#queue.pendingCount === 0) return Promise.resolve();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiters.push({ takenCount: this.#queue.takenCount, resolve, reject });
    this.#startWriting();
    return promise;
  }

  /**
   * Reads a page of records, including records that were added just before the call. Rejects with `store_unavailable` if the log cannot be read.
   */
  async read({ before, limit, filter }: AuditRead): Promise<AuditPage> {
    await this.#written();
    const { records, next, isDone } = await this.#scan({ isOldestFirst: false, from: before, limit, filter });
    return { records, nextBefore: isDone ? undefined : next };
  }

  /**
   * Reads the matching records above a number, oldest first, at most as many as a page has. `through` is the number up to which the log was read,
   * and `isDone` whether that was its end. Records that are not on disk yet are not read. Rejects with `store_unavailable` if the log cannot be read.
   */
  async readAbove(from: number, filter: AuditFilter) {
    const { records, next, isDone } = await this.#scan({ isOldestFirst: true, from, limit: MAX_PAGE_RECORDS, filter });
    return { records, through: next, isDone };
  }

  /** Returns the newest record, and the point immediately before the oldest record. Rejects with `store_unavailable` if the log cannot be read. */
  async ends(): Promise<{ readonly head: ChainPoint; readonly anchor: ChainPoint }> {
    await this.#written();
    return (await this.open()).call("look");
  }

  /** Returns whether the log contains a record with this hash. Rejects with `store_unavailable` if the log cannot be read. */
  async has({ number, hash }: ChainPoint): Promise<boolean> {
    const found = await (await this.open()).call("hashOf", number);
    return found !== undefined && equalBytes(found, hash);
  }

  /** Calls `onWritten` when further records are on disk, until the returned function is called. */
  follow(onWritten: () => void): () => void {
    this.#followers.add(onWritten);
    return () => this.#followers.delete(onWritten);
  }

  /** Reads slices until the page is full. */
  async #scan({ from, limit, ...what }: Omit<AuditScan, "maxBytes">) {
    const calls = await this.open();
    const wanted = Math.min(Math.max(limit, 1), MAX_PAGE_RECORDS);
    const records: AuditRecord[] = [];
    let [next, leftBytes] = [from, MAX_PAGE_BYTES];
    for (;;) {
      const found = await calls.call("scan", { ...what, from: next, limit: wanted - records.length, maxBytes: leftBytes });
      records.push(...found.records);
      leftBytes -= found.sizeBytes;
      ({ next } = found);
      if (found.isDone || records.length >= wanted || leftBytes <= 0) return { records, next, isDone: found.isDone };
    }
  }

  /**
   * Checks the whole chain in slices, while further records are accepted. `known` contains the heads that earlier checks returned, or the numbers and
   * hashes of lines that left the node. Each of these records must still be in the log or have been pruned. Cost: 8 µs per record, in the
   * store thread.
   */
  async verify(known: readonly ChainPoint[] = []): Promise<AuditCheck> {
    await this.#written();
    const calls = await this.open();
    let found = await calls.call("verify", { last: undefined, head: undefined });
    const { anchor } = found;
    let { checkedCount } = found;
    while (!found.isDone) {
      found = await calls.call("verify", { last: found.last, head: found.head });
      checkedCount += found.checkedCount;
    }
    const problem = found.problem ?? (await this.#missingPoint(calls, { known, anchor, head: found.head }));
    return { problem, checkedCount, anchor, head: found.head };
  }

  /** Opens the JSON-lines file again (SIGHUP). */
  reopenFile(): void {
    // If there is no thread, there is no file. If the thread has ended, this has already been reported.
    this.#calls
      ?.then((calls) => calls.call("reopen"))
      .then(() => this.#lookSoon())
      .catch(() => {});
  }

  /** Writes the queued records if possible, and then closes the log. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #open(): Promise<AuditCalls> {
    const { directory, retentionMs, maxBytes, file, log } = this.#options;
    const calls: AuditCalls = new ThreadCalls("audit");
    const opened = await calls.open({ directory, retentionMs, maxBytes, file });
    this.#show(opened.state);
    this.#lookSoon();
    const { head, anchor } = opened.state;
    log.info({ directory, recordCount: head.number - anchor.number, newest: head.number }, "audit log opened");
    if (opened.lostAfter !== undefined) this.#reportLostLog(opened.lostAfter);
    else if (!opened.isTailWhole) log.error({ directory, newest: head.number }, "audit log is missing its last written records");
    return calls;
  }

  /**
   * Logs the loss of records, and adds an audit record about it after the gap in the chain. `newest` is the number of the last record before the gap.
   */
  #reportLostLog(newest: number): void {
    const { directory, log } = this.#options;
    log.error({ directory, newest }, "audit log has lost its last records: audit.db-wal is missing or truncated");
    const detail = `the records after record ${newest} are lost: audit.db-wal was missing or truncated when the node started after a crash`;
    this.record({ ...LOSS, atWallMs: Date.now(), reason: "audit_log_lost", detail });
  }

  /** Waits until the records are on disk. Records that are not written yet cannot be read. */
  #written(): Promise<void> {
    return this.durable().catch(() => {});
  }

  async #missingPoint(
    calls: AuditCalls,
    { known, anchor, head }: { readonly known: readonly ChainPoint[]; readonly anchor: ChainPoint; readonly head: ChainPoint },
  ): Promise<ChainProblem | undefined> {
    for (const { number, hash } of known) {
      if (number < anchor.number) continue;
      if (number > head.number) {
        const message = `record ${number} was written, but the log ends with record ${head.number}`;
        return { kind: "truncated_tail", number: head.number + 1, message };
      }
      const found = await calls.call("hashOf", number);
      // If a record was pruned in the meantime, it cannot be compared.
      if (found !== undefined && !equalBytes(found, hash))
        return { kind: "altered", number, message: `the hash of record ${number} differs from the known hash` };
    }
    return undefined;
  }

  #writeIn(waitMs: number): void {
    if (this.#isWriting) return;
    this.#timer ??= setTimeout(() => this.#startWriting(), this.#refusal !== undefined ? RETRY_MS : waitMs);
  }

  #startWriting(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (this.#isWriting) return;
    this.#isWriting = true;
    void this.#writeBatches().finally(() => {
      this.#isWriting = false;
      if (this.#queue.pendingCount > 0 && this.#closed === undefined) this.#writeIn(GATHER_MS);
    });
  }

  /** Writes batches as long as a caller is waiting or a batch is full. */
  async #writeBatches(): Promise<void> {
    do {
      const events = this.#queue.takeBatch(MAX_BATCH);
      if (events.length === 0) return;
      try {
        const calls = await this.open();
        this.#show(await calls.call("append", events));
        this.#lookSoon();
      } catch (error) {
        this.#refused(error);
        return;
      }
      this.#queue.batchWritten();
      this.#accepted();
    } while (this.#waiters.length > 0 || this.#queue.pendingCount >= MAX_BATCH);
  }

  #accepted(): void {
    if (this.#refusal !== undefined)
      this.#options.log.info({ pendingCount: this.#queue.pendingCount }, "audit log is accepting records again");
    this.#refusal = undefined;
    const { writtenCount } = this.#queue;
    for (const waiter of this.#waiters) if (waiter.takenCount <= writtenCount) waiter.resolve();
    this.#waiters = this.#waiters.filter((waiter) => waiter.takenCount > writtenCount);
    for (const onWritten of this.#followers) onWritten();
  }

  #refused(error: unknown): void {
    this.#metrics.inc("waymark_audit_failures_total", {});
    // The failure is logged only once, and not for each batch. A metric counts the failed batches.
    if (this.#refusal === undefined) this.#options.log.error({ error: messageOf(error) }, "audit log write failed, records are queued");
    this.#refusal = messageOf(error);
    const refusal = new WaymarkError("store_unavailable", "the audit log could not be written", { retryMs: RETRY_MS, cause: error });
    for (const waiter of this.#waiters.splice(0)) waiter.reject(refusal);
  }

  #show({ usedBytes, fileLostCount, fileFault }: AuditState): void {
    this.#metrics.set("waymark_audit_bytes", {}, usedBytes);
    this.#metrics.counter("waymark_audit_file_lost_total", {}).set(fileLostCount);
    this.#fileFault = fileFault;
    const nowMs = performance.now();
    const { file, log } = this.#options;
    if (fileFault === "" && this.#fileLoggedMs !== undefined) {
      this.#fileLoggedMs = undefined;
      log.info({ file, lostCount: fileLostCount }, "audit file is accepting lines again");
    } else if (fileFault !== "" && nowMs - (this.#fileLoggedMs ?? Number.NEGATIVE_INFINITY) >= LOG_EVERY_MS) {
      this.#fileLoggedMs = nowMs;
      log.error({ file, lostCount: fileLostCount, error: fileFault }, "audit file write failed, lines are lost (audit.file)");
    }
  }

  /** Checks soon, and again while lines are being written, whether the lines were written, because no caller waits for them. */
  #lookSoon(): void {
    if (this.#options.file === undefined || this.#closed !== undefined || this.#looking !== undefined) return;
    this.#looking = setTimeout(() => {
      this.#looking = undefined;
      // If the thread has ended, the next write reports this.
      this.#look().catch(rethrowInvariant);
    }, LOOK_MS).unref();
  }

  async #look(): Promise<void> {
    const state = await (await this.open()).call("look");
    this.#show(state);
    if (state.isFileBusy) this.#lookSoon();
  }

  async #close(): Promise<void> {
    clearTimeout(this.#timer);
    clearTimeout(this.#looking);
    await this.#written();
    if (this.#queue.pendingCount > 0) this.#options.log.error({ lostCount: this.#queue.pendingCount }, "audit records lost at shutdown");
    let calls: AuditCalls | undefined;
    try {
      calls = await this.#calls;
    } catch (error) {
      // The file could not be opened, so there is nothing to close.
      if (!(error instanceof WaymarkError)) throw error;
    }
    await calls?.close();
  }
}
