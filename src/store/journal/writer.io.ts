/** Writes batches to the journal's SQLite file: one transaction and one fsync per batch, with checkpoints in idle time. */
import type { DatabaseSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import type { BatchLease, SeqNumbers } from "../../catalog/batch.ts";
import { closeSealed, emptyLog, unsealCleanStop } from "../clean-stop.io.ts";
import { CommitWatermark } from "../commit-watermark.io.ts";
import { fileBytes, lastCommits, openForWriting, transactions } from "../database-file.io.ts";
import { JOURNAL, journalPath } from "./file.io.ts";
import {
  batchMarks,
  type JournalMeta,
  type JournalRow,
  MAX_LEASE,
  NO_LEASE,
  type NumberedLease,
  ROW_KEY,
  rowKeyEnd,
  rowLease,
  sealRow,
  visitBatch,
} from "./format.ts";
import { hashBytes, KeyTable } from "./key-table.ts";

/** Maximum number of process instances whose names are kept. */
const MAX_STARTS = 1000;

/** Number of rows that one statement writes. With one row per statement, a batch of a hundred rows would take 10 % more time. */
const ROWS_AT_ONCE = 10;

/** The stored seqs of keys and numbers of leases. This index is filled while the file is being read, and then updated by the writer. */
export class JournalIndex {
  /** The seqs of rows, by the hash of the key. */
  readonly keys = new KeyTable();
  /** The numbers of leases, by the hash of the lease ID. */
  readonly leases = new KeyTable();
  readonly #seed: number;
  readonly #encoder = new TextEncoder();
  /** The next lease number. A number is not reused while a row may still refer to it. */
  nextLease = NO_LEASE + 1;

  constructor(seed: number) {
    this.#seed = seed;
  }

  hash(bytes: Uint8Array): number {
    return hashBytes(bytes, this.#seed);
  }

  /** Returns the hash of the key of the row at `at`. */
  hashKey(bytes: Uint8Array, at = 0): number {
    return hashBytes(bytes, this.#seed, at + ROW_KEY, rowKeyEnd(bytes, at));
  }

  hashText(text: string): number {
    return hashBytes(this.#encoder.encode(text), this.#seed);
  }

  /** Adds the row with this seq, which starts at `at`. */
  addRow(seq: number, bytes: Uint8Array, at: number): void {
    this.keys.add(this.hashKey(bytes, at), seq);
    this.nextLease = Math.max(this.nextLease, rowLease(bytes, at) + 1);
  }

  addLease(lease: NumberedLease): void {
    this.leases.add(this.hashText(lease.leaseId), lease.lease);
    this.nextLease = Math.max(this.nextLease, lease.lease + 1);
  }
}

/** Prepares the SQL statements, once per connection. */
function prepareAll(db: DatabaseSync) {
  return {
    transaction: transactions(db),
    insertRow: db.prepare("INSERT INTO records (seq, row) VALUES (?, ?)"),
    insertRows: db.prepare(`INSERT INTO records (seq, row) VALUES ${Array.from({ length: ROWS_AT_ONCE }, () => "(?, ?)").join(", ")}`),
    deleteRow: db.prepare("DELETE FROM records WHERE seq = ? AND substr(row, 25, ?) = ?"),
    putLease: db.prepare("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?)"),
    deleteLease: db.prepare("DELETE FROM leases WHERE lease = ? AND lease_id = ?"),
    isLease: db.prepare("SELECT 1 FROM leases WHERE lease = ? AND lease_id = ?"),
    isNumber: db.prepare("SELECT 1 FROM leases WHERE lease = ?"),
    boot: db.prepare("UPDATE meta SET node_id = ?, generation = ?, boots = ?"),
    count: db.prepare("UPDATE meta SET commits = ?, last_seq = max(last_seq, ?), floor = max(floor, ?)"),
  };
}

/** Writes batches. Every method can throw SQLite errors. The file then contains exactly those batches for which no error was thrown. */
export class JournalWriter {
  readonly #path: string;
  readonly #index: JournalIndex;
  readonly #db: DatabaseSync;
  readonly #sql: ReturnType<typeof prepareAll>;
  readonly #watermark: CommitWatermark;
  /** The number of the last commit. This number is never below the watermark, even if a file that has lost commits is accepted. */
  #lastCommit: number;
  /** Whether the write-ahead log may contain parts of a failed batch, which only a later commit or a reset of the log removes. */
  #isLogSuspect = false;
  /** All lower lease numbers are in use. This is needed when `nextLease` has passed the highest number. */
  #nextFree = NO_LEASE + 1;

  constructor(directory: string, index: JournalIndex) {
    this.#path = journalPath(directory);
    this.#index = index;
    this.#db = openForWriting(this.#path);
    // SQLite must not checkpoint automatically, because the thread schedules checkpoints itself; see `checkpoint`.
    this.#db.exec("PRAGMA wal_autocheckpoint = 0");
    this.#sql = prepareAll(this.#db);
    this.#watermark = new CommitWatermark(this.#path);
    const { last, watermark } = lastCommits(this.#path, JOURNAL, this.#db);
    this.#lastCommit = Math.max(last, watermark);
  }

  /** Runs `body` in one numbered transaction. The transaction is on disk when this method returns. */
  #commit(body: () => void, { lastSeq, floor }: SeqNumbers = { lastSeq: 0, floor: 0 }): void {
    const number = this.#lastCommit + 1;
    this.#sql.transaction(() => {
      body();
      this.#sql.count.run(number, lastSeq, floor);
    });
    this.#lastCommit = number;
    this.#watermark.write(number);
  }

  /** Size of the write-ahead log. */
  walBytes(): number {
    return fileBytes(`${this.#path}-wal`);
  }

  /** Size of the file, not including the write-ahead log. */
  fileBytes(): number {
    return fileBytes(this.#path);
  }

  /** Copies the write-ahead log into the file and starts a new log. Throws if the disk fails, but then no data is lost. */
  checkpoint(): void {
    emptyLog(this.#db);
    this.#isLogSuspect = false;
    this.#beginLog();
  }

  /** Writes a first commit into an empty write-ahead log and syncs the watermark, so that it is detected if the log is emptied later. */
  #beginLog(first: () => void = () => {}): void {
    this.#commit(first);
    this.syncWatermark();
  }

  /** Syncs the watermark to disk, unless the last sync was less than `everyMs` ago. */
  syncWatermark(everyMs?: number): void {
    this.#watermark.sync(everyMs);
  }

  /**
   * Must be called after a failed batch. If only the fsync of the batch failed, the whole batch is in the write-ahead log, and a restart would find
   * it. A new commit at the same position overwrites the batch. Throws while the disk is still failing.
   */
  heal(): void {
    this.#isLogSuspect = true;
    this.#commit(() => {});
    // The write-ahead log is also emptied, so that a later check for damage does not find remains of the batch after the new commit.
    this.checkpoint();
  }

  /** Whether `heal` still has to be called. */
  needsHeal(): boolean {
    return this.#isLogSuspect;
  }

  /**
   * Closes the database, and leaves one complete file with its seal if the disk permits it. Otherwise, the write-ahead log remains next to the file.
   */
  close(): void {
    if (this.#db.isOpen) this.#watermark.close(closeSealed(this.#path, this.#db));
  }

  /** Must be called before all other writes. Stores the number of this boot, and then moves the seal of the last stop away. */
  begin(meta: JournalMeta): void {
    this.#beginLog(() => this.#sql.boot.run(meta.nodeId, meta.generation, meta.boots));
    unsealCleanStop(this.#path);
  }

  /** Stores the name of this process instance, before it is sent to other nodes. */
  nameStart(boot: string): void {
    this.#commit(() => {
      this.#db.prepare("DELETE FROM starts WHERE number <= (SELECT max(number) FROM starts) - ?").run(MAX_STARTS);
      this.#db.prepare("INSERT INTO starts (number, boot) SELECT 1 + ifnull(max(number), 0), ? FROM starts").run(boot);
    });
  }

  /** Stores the generation to which the following writes belong. */
  boot(meta: JournalMeta): void {
    this.#commit(() => this.#sql.boot.run(meta.nodeId, meta.generation, meta.boots));
  }

  /**
   * Applies an encoded batch in one transaction. The batch is on disk when this method returns. Missing fields of the rows in `buffer` are filled in.
   */
  write(buffer: ArrayBuffer): void {
    const marks = batchMarks(buffer);
    const index = this.#index;
    const nextLease = index.nextLease;
    index.keys.begin(marks.putCount);
    index.leases.begin(marks.leaseCount);
    try {
      this.#commit(() => {
        const rows: JournalRow[] = [];
        visitBatch(buffer, this.#visitor(rows));
        this.#insert(rows);
      }, marks);
    } catch (error) {
      index.keys.rollback();
      index.leases.rollback();
      index.nextLease = nextLease;
      throw error;
    }
  }

  /** Writes the rows, and empties the list. */
  #insert(rows: JournalRow[]): void {
    const { insertRow, insertRows } = this.#sql;
    if (rows.length === ROWS_AT_ONCE) insertRows.run(...rows.flatMap(({ seq, bytes }) => [seq, bytes]));
    else for (const { seq, bytes } of rows) insertRow.run(seq, bytes);
    rows.length = 0;
  }

  /** Collects rows in `rows`, and writes them when there are enough. */
  #visitor(rows: JournalRow[]) {
    const sql = this.#sql;
    const index = this.#index;
    /** The numbers of the leases to which this batch has referred. */
    const numbers = new Map([["", NO_LEASE]]);
    const leaseNumber = (id: string): number => {
      const named = numbers.get(id);
      if (named !== undefined) return named;
      const lease = index.leases.find(index.hashText(id), (number) => sql.isLease.get(number, id) !== undefined);
      if (lease === undefined) throw new Error(`a row refers to lease ${id}, which was never written`);
      numbers.set(id, lease);
      return lease;
    };
    const deleteRow = (seq: number, key: Uint8Array): boolean => {
      // The same batch has already put this key.
      if (rows.some((row) => row.seq === seq)) this.#insert(rows);
      return sql.deleteRow.run(seq, key.length, key).changes === 1;
    };
    return {
      forget: (key: Uint8Array) => {
        index.keys.remove(index.hash(key), (seq) => deleteRow(seq, key));
      },
      lease: (lease: BatchLease) => {
        const hash = index.hashText(lease.leaseId);
        const known = index.leases.find(hash, (number) => sql.isLease.get(number, lease.leaseId) !== undefined);
        const number = known ?? this.#newLease();
        if (known === undefined) index.leases.replace(hash, number, () => false);
        numbers.set(lease.leaseId, number);
        sql.putLease.run(number, lease.leaseId, lease.ttlMs, lease.principal, lease.idempotencyKey, lease.grantedWallMs);
      },
      put: (row: JournalRow, leaseId: string) => {
        sealRow(row.bytes, leaseNumber(leaseId), crc32);
        index.keys.replace(index.hashKey(row.bytes), row.seq, (seq) => deleteRow(seq, row.bytes.subarray(ROW_KEY, rowKeyEnd(row.bytes))));
        rows.push(row);
        if (rows.length === ROWS_AT_ONCE) this.#insert(rows);
      },
      endLease: (id: string) => {
        index.leases.remove(index.hashText(id), (number) => sql.deleteLease.run(number, id).changes === 1);
      },
    };
  }

  /**
   * Returns the next lease number. If the highest number is in use, which occurs only in a file that was tampered with, returns a number that is not
   * in use.
   */
  #newLease(): number {
    const index = this.#index;
    if (index.nextLease <= MAX_LEASE) return index.nextLease++;
    let number = this.#nextFree;
    while (this.#sql.isNumber.get(number) !== undefined) number++;
    this.#nextFree = number + 1;
    return number;
  }
}
