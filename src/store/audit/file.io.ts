/**
 * The audit log's SQLite file. Records are appended in groups and form a hash chain. The oldest records are pruned. Each record is also written as a
 * line to the JSON-lines file, if one is configured (`stream.io.ts`). The database is in a separate file, so that slow fsyncs or damage in it do not
 * affect the node's decisions. A person with write access to the file can write a completely new chain, or cut off its start and end and adjust
 * `meta`. To detect this, store a chain head elsewhere (the JSON-lines file contains all of them).
 */

import { DatabaseSync } from "node:sqlite";
import { equalBytes } from "../../lib/crypto.ts";
import { ChainCheck, type ChainProblem } from "../../policy/audit/chain.ts";
import { type AuditFilter, matchesAudit, necessaryTexts } from "../../policy/audit/filter.ts";
import { auditLine } from "../../policy/audit/line.ts";
import {
  type AuditEvent,
  type AuditRecord,
  CHAIN_START,
  type ChainPoint,
  chainEvent,
  NO_HASH,
  parseCanonical,
} from "../../policy/audit/record.ts";
import { syncDirectory } from "../clean-stop.io.ts";
import { CommitWatermark, WATERMARK_SYNC_MS } from "../commit-watermark.io.ts";
import { DATA_FILES } from "../data-directory.ts";
import { type DatabaseFormat, damaged, fileBytes, lastCommits, openDatabase, transactions } from "../database-file.io.ts";
import type { ThreadOwner } from "../thread.io.ts";
import { AuditStream } from "./stream.io.ts";

export interface AuditFileOptions {
  /** The directory of the file. If undefined, the log is kept in memory until the process ends. */
  readonly directory: string | undefined;
  /** Age above which records are pruned. Must be at least an hour. */
  readonly retentionMs: number;
  /** Approximate limit of the log's size on disk. The oldest records are pruned first. */
  readonly maxBytes: number;
  /** The file to which each record is appended as a line of JSON. */
  readonly file: string | undefined;
}

/** Values that only the log's thread knows and that it sends with each answer. */
export interface AuditState {
  /** The newest record. */
  readonly head: ChainPoint;
  /** The newest pruned record. The chain starts after this record. */
  readonly anchor: ChainPoint;
  /** Size of the file, not including free pages. */
  readonly usedBytes: number;
  /** Number of lines that could not be written to the JSON-lines file. */
  readonly fileLostCount: number;
  /** The reason why the last lines could not be written to that file. Empty if these lines were written, or if there is no such file. */
  readonly fileFault: string;
  /** Whether lines are being written to that file. */
  readonly isFileBusy: boolean;
}

/** Which records to read. */
export interface AuditScan {
  /** Whether to read the oldest records first. If not, the newest are first. */
  readonly isOldestFirst: boolean;
  /** Only records with lower numbers or, if the oldest are first, with higher numbers. Undefined means all records. */
  readonly from: number | undefined;
  readonly limit: number;
  /** Size of canonical records, in bytes, at which the scan ends. The record that reaches this size is included. */
  readonly maxBytes: number;
  readonly filter: AuditFilter;
}

export interface AuditSlice {
  readonly records: readonly AuditRecord[];
  /** Size of the canonical records. */
  readonly sizeBytes: number;
  /** The number from which the next slice is read. */
  readonly next: number;
  /** Whether the log has no more records now. */
  readonly isDone: boolean;
}

const AUDIT: DatabaseFormat = {
  name: "audit",
  // "WayA".
  applicationId: 0x57617941,
  isSealed: false,
  lastCommit: "SELECT head AS number FROM meta WHERE one = 1",
  schema: `
CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), head INTEGER NOT NULL, head_hash BLOB NOT NULL,
  anchor INTEGER NOT NULL, anchor_hash BLOB NOT NULL) STRICT;
CREATE TABLE records (number INTEGER PRIMARY KEY, canonical BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
-- Whether a node writes to the file.
CREATE TABLE life (one INTEGER PRIMARY KEY CHECK (one = 1), is_open INTEGER NOT NULL) STRICT;
`,
};
/** A slice of a scan covers this many numbers: about 0.4 ms if no record matches, and 100 ms if all records have the largest size. */
const SCAN_NUMBERS = 500;
/**
 * A slice of a check ends after this many rows, or after the row with which it reaches this many bytes. Reading a slice needs about 10 ms. After each
 * slice, a waiting batch is written.
 */
const SLICE_ROWS = 2000;
const SLICE_BYTES = 2 * 1024 * 1024;
/** Number of rows that are pruned in one transaction. */
const PRUNE_ROWS = 1000;
/** Time after which no further transaction of a pruning starts, because the journal waits. Each pruning has at least one transaction. */
const PRUNE_MS = 10;
/** Interval at which old records are pruned when no records are written. */
const PRUNE_EVERY_MS = 60_000;

type SqlRow = Readonly<Record<string, unknown>>;

/**
 * Reads a slice of a scan. SQLite rejects most records that do not match, because it searches the canonical bytes ten times faster than they can be
 * parsed. The time of a record follows its number (`canonicalBytes`).
 */
function scanOf(order: "" | "DESC"): string {
  return `
SELECT r.number, r.canonical, r.hash, p.hash AS previous FROM records r LEFT JOIN records p ON p.number = r.number - 1
WHERE r.number > ? AND r.number < ?
  AND (? OR instr(r.canonical, CAST(? AS BLOB)) > 0)
  AND (? OR instr(lower(CAST(r.canonical AS TEXT)), ?) > 0)
  AND (? OR CAST(substr(r.canonical, 10 + length(r.number), 16) AS INTEGER) BETWEEN ? AND ?)
ORDER BY r.number ${order}`;
}

function prepareAll(db: DatabaseSync) {
  return {
    transaction: transactions(db),
    meta: db.prepare("SELECT head, head_hash, anchor, anchor_hash FROM meta WHERE one = 1"),
    insert: db.prepare("INSERT INTO records VALUES (?, ?, ?)"),
    moveHead: db.prepare("UPDATE meta SET head = ?, head_hash = ?"),
    moveAnchor: db.prepare("UPDATE meta SET anchor = ?, anchor_hash = ?"),
    oldest: db.prepare("SELECT number, canonical, hash FROM records ORDER BY number LIMIT ?"),
    newest: db.prepare("SELECT number, hash FROM records ORDER BY number DESC LIMIT 1"),
    prune: db.prepare("DELETE FROM records WHERE number <= ?"),
    after: db.prepare("SELECT number, canonical, hash FROM records WHERE number > ? AND number <= ? ORDER BY number LIMIT ?"),
    oldestFirst: db.prepare(scanOf("")),
    newestFirst: db.prepare(scanOf("DESC")),
    numbers: db.prepare("SELECT (SELECT min(number) FROM records) AS first, (SELECT max(number) FROM records) AS last"),
    hashOf: db.prepare("SELECT hash FROM records WHERE number = ?"),
    pages: db.prepare(
      "SELECT page_count - freelist_count AS used, page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
    ),
  };
}

/**
 * The open file. Methods throw SQLite's errors unchanged; a failed change leaves no trace.
 *
 * While records are being written, the file is marked as open, and a non-empty write-ahead log exists next to it. A clean stop first removes the mark
 * and then the write-ahead log. If a file has the mark, but its write-ahead log is missing or truncated, its last records were lost. Such a file is
 * still opened, because evidence must remain readable. The chain then skips at least one number, so that every later verification finds the gap.
 */
export class AuditFile implements ThreadOwner {
  /** `lostAfter` is the number of the last record before the records that were lost. Undefined if no records were lost. */
  readonly opened: { readonly state: AuditState; readonly isTailWhole: boolean; readonly lostAfter: number | undefined };
  readonly #retentionMs: number;
  readonly #maxBytes: number;
  readonly #close: () => void;
  /** The number of the last record, which is stored in a file next to the database. Undefined in memory. */
  readonly #watermark: CommitWatermark | undefined;
  readonly #db: DatabaseSync;
  readonly #sql: ReturnType<typeof prepareAll>;
  /** Undefined in memory. */
  readonly #directory: string | undefined;
  /** The JSON-lines file. Undefined without one. */
  readonly #stream: AuditStream | undefined;
  readonly #pruning: NodeJS.Timeout;
  #isMarkedOpen = false;
  #head: ChainPoint;
  #anchor: ChainPoint;

  /**
   * Creates missing files. Throws `FileRefusedError`, without changes, if the file is in use, is damaged, or was written by a newer program.
   */
  constructor({ directory, retentionMs, maxBytes, file }: AuditFileOptions) {
    this.#retentionMs = retentionMs;
    this.#maxBytes = maxBytes;
    const { db, close, watermark, lostThrough } = directory === undefined ? openInMemory() : openOnDisk(directory);
    this.#close = close;
    this.#watermark = watermark;
    this.#db = db;
    this.#directory = directory;
    this.#sql = prepareAll(db);
    ({ head: this.#head, anchor: this.#anchor } = pointsOf(this.#sql.meta.get(), "the audit log"));
    const lostAfter = lostThrough === undefined ? undefined : this.#head.number;
    if (lostThrough !== undefined) this.#passOver(lostThrough);
    this.#stream = file === undefined ? undefined : new AuditStream(file);
    this.#stream?.reopen();
    this.#prune();
    this.#pruning = setInterval(() => this.#prune(), PRUNE_EVERY_MS).unref();
    this.opened = { state: this.look(), isTailWhole: this.#isTailWhole(), lostAfter };
  }

  look(): AuditState {
    const { lostCount = 0, fault = "", isBusy = false } = this.#stream ?? {};
    const file = { fileLostCount: lostCount, fileFault: fault, isFileBusy: isBusy };
    return { head: this.#head, anchor: this.#anchor, usedBytes: this.#usedBytes(), ...file };
  }

  /** Opens the JSON-lines file again, after the previous file was moved away. */
  reopen(): void {
    this.#stream?.reopen();
  }

  /**
   * Whether the newest record in the file is the last one that was written. The chain always continues from the last record that was written, so a
   * loss remains visible.
   */
  #isTailWhole(): boolean {
    const newest = this.#sql.newest.get();
    if (newest === undefined) return this.#head.number === this.#anchor.number;
    return newest["number"] === this.#head.number && equalBytes(bytesOf(newest["hash"]), this.#head.hash);
  }

  #usedBytes(): number {
    const pages = this.#sql.pages.get();
    return Number(pages?.["used"]) * Number(pages?.["page_size"]);
  }

  /** Adds records to the chain. The records are on disk when this method returns. */
  append(events: readonly AuditEvent[]): AuditState {
    const records: AuditRecord[] = [];
    let head = this.#head;
    this.#markOpen();
    this.#sql.transaction(() => {
      for (const event of events) {
        const { record, canonical } = chainEvent(event, head);
        this.#sql.insert.run(record.number, canonical, record.hash);
        records.push(record);
        head = record;
      }
      this.#sql.moveHead.run(head.number, head.hash);
    });
    this.#head = { number: head.number, hash: head.hash };
    this.#watermark?.write(head.number);
    this.#watermark?.sync(WATERMARK_SYNC_MS);
    this.#stream?.write(records.map(auditLine));
    this.#prune();
    return this.look();
  }

  /** Removes records that are too old or above the size limit, for about 10 ms. The newest removed record becomes the anchor. */
  #prune(): void {
    const endMs = performance.now() + PRUNE_MS;
    try {
      while (this.#pruneSlice(Date.now() - this.#retentionMs) && performance.now() < endMs);
    } catch {
      // If the disk fails, old records remain until the disk accepts writes again. The failure is reported with the batches that fail.
    }
  }

  /** Removes some records. Returns whether there may be more records to remove. */
  #pruneSlice(oldestWallMs: number): boolean {
    const isTooLarge = this.#usedBytes() > this.#maxBytes;
    const isDue = (row: SqlRow): boolean => isTooLarge || isOlder(row, oldestWallMs);
    const oldest = this.#sql.oldest.get(1);
    if (oldest === undefined || !isDue(oldest)) return false;
    let last: SqlRow | undefined;
    let count = 0;
    for (const row of this.#sql.oldest.iterate(PRUNE_ROWS)) {
      // The newest record is never removed, so that there is always a record to compare with the head.
      if (row["number"] === this.#head.number || !isDue(row)) break;
      last = row;
      count++;
    }
    if (last === undefined) return false;
    const anchor: ChainPoint = { number: Number(last["number"]), hash: bytesOf(last["hash"]) };
    this.#sql.transaction(() => {
      this.#sql.prune.run(anchor.number);
      this.#sql.moveAnchor.run(anchor.number, anchor.hash);
    });
    this.#anchor = anchor;
    return count === PRUNE_ROWS;
  }

  /** Returns the matching records in a slice of the log. */
  scan({ isOldestFirst, from, limit, maxBytes, filter }: AuditScan): AuditSlice {
    const { above, below, isDone } = this.#scanned(isOldestFirst, from);
    const { exact, folded } = necessaryTexts(filter);
    const { fromWallMs = Number.MIN_SAFE_INTEGER, toWallMs = Number.MAX_SAFE_INTEGER } = filter;
    const isTimeless = filter.fromWallMs === undefined && filter.toWallMs === undefined;
    const texts = [exact === "" ? 1 : 0, exact, folded === "" ? 1 : 0, folded] as const;
    const records: AuditRecord[] = [];
    let sizeBytes = 0;
    const statement = isOldestFirst ? this.#sql.oldestFirst : this.#sql.newestFirst;
    for (const row of statement.iterate(above, below, ...texts, isTimeless ? 1 : 0, fromWallMs, toWallMs)) {
      const canonical = bytesOf(row["canonical"]);
      const event = parseCanonical(canonical)?.event;
      // `verify` reports records that cannot be read.
      if (event === undefined || !matchesAudit(event, filter)) continue;
      const number = Number(row["number"]);
      records.push({ ...event, number, hash: bytesOf(row["hash"]), previousHash: this.#previousHash(row) });
      sizeBytes += canonical.length;
      if (records.length === limit || sizeBytes >= maxBytes) return { records, sizeBytes, next: number, isDone: false };
    }
    return { records, sizeBytes, next: isOldestFirst ? below - 1 : above + 1, isDone };
  }

  /** Returns the numbers that the next slice of a scan covers, both exclusive, and whether it is the last slice. */
  #scanned(isOldestFirst: boolean, from: number | undefined) {
    const numbers = this.#sql.numbers.get();
    const [low, high] = [Number(numbers?.["first"]) - 1, Number(numbers?.["last"]) + 1];
    if (isOldestFirst) {
      const above = Math.max(from ?? low, low);
      const below = Math.min(above + 1 + SCAN_NUMBERS, Math.max(high, above + 1));
      return { above, below, isDone: below >= high };
    }
    const below = Math.min(from ?? high, high);
    const above = Math.max(below - 1 - SCAN_NUMBERS, low);
    return { above, below, isDone: above <= low };
  }

  #previousHash(row: SqlRow): Uint8Array {
    if (row["previous"] instanceof Uint8Array) return row["previous"];
    return row["number"] === this.#anchor.number + 1 ? this.#anchor.hash : NO_HASH;
  }

  /** Checks a slice of the chain after `last` (default: the anchor) up to `head` (default: the newest record now). */
  verify({ last, head = this.#head }: { readonly last: ChainPoint | undefined; readonly head: ChainPoint | undefined }) {
    // Records that were pruned since the last slice were valid. Otherwise, the check would have ended with a problem.
    const from = last === undefined || last.number < this.#anchor.number ? this.#anchor : last;
    const check = new ChainCheck(this.#anchor, from);
    const slice = new SliceCounter();
    let checkedCount = 0;
    let problem: ChainProblem | undefined;
    for (const row of this.#sql.after.iterate(from.number, head.number, SLICE_ROWS)) {
      const canonical = bytesOf(row["canonical"]);
      problem = check.add({ place: Number(row["number"]), canonical, hash: bytesOf(row["hash"]) });
      if (problem !== undefined) break;
      checkedCount++;
      slice.add(canonical);
      if (slice.isFull) break;
    }
    const isDone = problem !== undefined || !slice.isFull;
    if (isDone) problem ??= this.#beyondHead() ?? (head.number < from.number ? undefined : check.end(head));
    return { problem, last: check.last, anchor: this.#anchor, head, checkedCount, isDone };
  }

  #beyondHead(): ChainProblem | undefined {
    const number = Number(this.#sql.newest.get()?.["number"] ?? 0);
    if (number <= this.#head.number) return undefined;
    return {
      kind: "altered",
      number,
      message: `record ${number} follows record ${this.#head.number}, which the log's metadata gives as the last record`,
    };
  }

  /** Returns the hash of the anchor, or of a record that still exists. */
  hashOf(number: number): Uint8Array | undefined {
    if (number === this.#anchor.number) return this.#anchor.hash;
    const hash = this.#sql.hashOf.get(number)?.["hash"];
    return hash instanceof Uint8Array ? hash : undefined;
  }

  close(): void {
    clearInterval(this.#pruning);
    try {
      // The checkpoint is done first. The write-ahead log is then overwritten from its start, within its existing space, so that a full disk does not
      // prevent the write.
      if (this.#directory !== undefined && isOpenIn(this.#db)) this.#db.exec("PRAGMA wal_checkpoint; UPDATE life SET is_open = 0");
    } catch {
      // The disk has failed, and SQLite keeps the write-ahead log.
    }
    this.#close();
    // The thread continues until the last line is written.
    void this.#stream?.close();
  }

  /** Skips the numbers of lost records: the number after the head, and all numbers up to `lostThrough`. */
  #passOver(lostThrough: number): void {
    const head: ChainPoint = { number: Math.max(this.#head.number + 1, lostThrough), hash: NO_HASH };
    this.#markOpen(() => this.#sql.moveHead.run(head.number, head.hash));
    this.#head = head;
  }

  /** Called before the first record. First writes to the write-ahead log, and then marks the file as open. */
  #markOpen(first: () => void = () => {}): void {
    if (this.#isMarkedOpen || this.#directory === undefined) return;
    this.#sql.transaction(() => {
      this.#db.exec("INSERT OR REPLACE INTO life VALUES (1, 1)");
      first();
    });
    syncDirectory(this.#directory);
    const moved = this.#db.prepare("PRAGMA wal_checkpoint(PASSIVE)").get();
    if (moved?.["busy"] !== 0 || moved["log"] !== moved["checkpointed"]) throw new Error("the checkpoint is incomplete");
    this.#isMarkedOpen = true;
  }
}

/** Counts the rows of a slice. The rows are read one at a time, so that a slice of large records is never completely in memory. */
class SliceCounter {
  #rows = 0;
  #bytes = 0;

  add(canonical: Uint8Array): void {
    this.#rows++;
    this.#bytes += canonical.length;
  }

  get isFull(): boolean {
    return this.#rows >= SLICE_ROWS || this.#bytes >= SLICE_BYTES;
  }
}

function openInMemory() {
  const db = new DatabaseSync(":memory:");
  db.exec(AUDIT.schema);
  writeMeta(db);
  return { db, close: () => db.close(), watermark: undefined, lostThrough: undefined };
}

function openOnDisk(directory: string) {
  const check = (db: DatabaseSync, path: string): number | undefined => {
    pointsOf(prepareAll(db).meta.get(), path);
    const { last, watermark } = lastCommits(path, AUDIT, db);
    // An empty write-ahead log is not a sign of lost data, because SQLite creates one when it opens the file.
    return watermark > last || (fileBytes(`${path}-wal`) === 0 && isOpenIn(db)) ? watermark : undefined;
  };
  const { found, path, db, unlock } = openDatabase(AUDIT, {
    directory,
    file: DATA_FILES.audit,
    fill: writeMeta,
    check,
    takesAsItIs: true,
  });
  const watermark = new CommitWatermark(path);
  const close = (): void => {
    db.close();
    watermark.close(fileBytes(`${path}-wal`) === 0);
    unlock();
  };
  return { db, close, watermark, lostThrough: found };
}

/** Whether the file is marked as open. */
function isOpenIn(db: DatabaseSync): boolean {
  return db.prepare("SELECT is_open FROM life WHERE one = 1").get()?.["is_open"] === 1;
}

function writeMeta(db: DatabaseSync): void {
  db.prepare("INSERT INTO meta VALUES (1, ?, ?, ?, ?)").run(CHAIN_START.number, CHAIN_START.hash, CHAIN_START.number, CHAIN_START.hash);
}

function pointsOf(meta: SqlRow | undefined, path: string): { readonly head: ChainPoint; readonly anchor: ChainPoint } {
  if (meta === undefined) throw damaged(path, "its meta table has no row");
  return {
    head: { number: Number(meta["head"]), hash: bytesOf(meta["head_hash"]) },
    anchor: { number: Number(meta["anchor"]), hash: bytesOf(meta["anchor_hash"]) },
  };
}

function isOlder(row: SqlRow, oldestWallMs: number): boolean {
  const event = parseCanonical(bytesOf(row["canonical"]))?.event;
  // A record that cannot be read is evidence, so it is pruned only because of the size limit.
  return event !== undefined && event.atWallMs < oldestWallMs;
}

function bytesOf(value: unknown): Uint8Array {
  return value instanceof Uint8Array ? value : NO_HASH;
}
