/** Writes batches to the journal's SQLite file: one transaction and one fsync a batch, checkpoints when nobody waits. */
import { statSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import { closeSealed, unsealCleanStop } from "../clean-stop.io.ts";
import { journalPath, STARTS_SCHEMA } from "./file.io.ts";
import type { JournalLease, SeqNumbers } from "./format.ts";
import { batchMarks, MAX_LEASE, NO_LEASE, type Row, rowLease, sealRow, visitBatch } from "./format.ts";
import { hashBytes, KeyTable } from "./key-table.ts";
import type { JournalMeta, NumberedLease } from "./thread.ts";

/** Starts remembered: so many may end one after the other before anybody hears of one. */
const MAX_STARTS = 1000;

/** What is stored under which number; filled while the file is read, kept in step by the writer. */
export class JournalIndex {
  /** Hash of a key → seq of its row. */
  readonly keys = new KeyTable();
  /** Hash of a lease id → its number. */
  readonly leases = new KeyTable();
  readonly #seed: number;
  readonly #encoder = new TextEncoder();
  /** Lease numbers are never used twice while a row may still name them. */
  nextLease = NO_LEASE + 1;

  constructor(seed: number) {
    this.#seed = seed;
  }

  hash(bytes: Uint8Array): number {
    return hashBytes(bytes, this.#seed);
  }

  hashText(text: string): number {
    return hashBytes(this.#encoder.encode(text), this.#seed);
  }

  addRow(row: Row): void {
    this.keys.add(this.hash(row.keyBytes), row.seq);
    this.nextLease = Math.max(this.nextLease, rowLease(row.bytes) + 1);
  }

  addLease(lease: NumberedLease): void {
    this.leases.add(this.hashText(lease.leaseId), lease.lease);
    this.nextLease = Math.max(this.nextLease, lease.lease + 1);
  }
}

/** Prepared once per connection. */
function prepareAll(db: DatabaseSync) {
  return {
    begin: db.prepare("BEGIN IMMEDIATE"),
    commit: db.prepare("COMMIT"),
    insertRow: db.prepare("INSERT INTO records (seq, row) VALUES (?, ?)"),
    deleteRow: db.prepare("DELETE FROM records WHERE seq = ? AND substr(row, 25, ?) = ?"),
    putLease: db.prepare("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?, ?)"),
    deleteLease: db.prepare("DELETE FROM leases WHERE lease = ? AND lease_id = ?"),
    isLease: db.prepare("SELECT 1 FROM leases WHERE lease = ? AND lease_id = ?"),
    isNumber: db.prepare("SELECT 1 FROM leases WHERE lease = ?"),
    marks: db.prepare("UPDATE meta SET last_seq = max(last_seq, ?), floor = max(floor, ?)"),
    settle: db.prepare("UPDATE meta SET last_seq = ?, floor = ?"),
    highest: db.prepare("SELECT max(seq) AS seq FROM records"),
    boot: db.prepare("UPDATE meta SET node_id = ?, generation = ?, boots = ?"),
    heal: db.prepare("UPDATE meta SET heals = heals + 1"),
  };
}

/** Writes batches. Every method may throw an SQLite error; after one the file holds exactly the batches that did not throw. */
export class JournalWriter {
  readonly #path: string;
  readonly #index: JournalIndex;
  readonly #db: DatabaseSync;
  readonly #sql: ReturnType<typeof prepareAll>;
  /** Parts of a refused batch may still lie in the log, where only a later commit or a reset removes them. */
  #isLogSuspect = false;
  /** No row has a number above those that are given out now. */
  #isSettled = true;
  /** Below it all numbers of leases were given; used when there is none above. */
  #nextFree = NO_LEASE + 1;

  constructor(directory: string, index: JournalIndex) {
    this.#path = journalPath(directory);
    this.#index = index;
    this.#db = new DatabaseSync(this.#path);
    // Exclusive: no shared-memory file. Checkpoints are ours to time, see `checkpoint`.
    this.#db.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0");
    this.#sql = prepareAll(this.#db);
  }

  /** Size of the write-ahead log. */
  walBytes(): number {
    return statSync(`${this.#path}-wal`, { throwIfNoEntry: false })?.size ?? 0;
  }

  /** Size of the file without the log. */
  fileBytes(): number {
    return statSync(this.#path, { throwIfNoEntry: false })?.size ?? 0;
  }

  /**
   * Moves the log into the file and empties it. Throws when the disk refuses; nothing is lost by that, the log just
   * stays as it is.
   */
  checkpoint(): void {
    const result = this.#db.prepare("PRAGMA wal_checkpoint(TRUNCATE)").get();
    if (result?.["busy"] !== 0) throw new Error("the checkpoint found the file busy");
    this.#isLogSuspect = false;
  }

  /**
   * To be called after a batch was refused. When only its fsync failed, the batch lies complete in the log and a
   * restart would find it: a commit of our own in its place makes it disappear. Throws when the disk still refuses.
   */
  heal(): void {
    this.#isLogSuspect = true;
    this.#transaction(() => this.#sql.heal.run());
    // What is left behind the new commit is emptied as well, so that a later damage check does not take it for data.
    this.checkpoint();
  }

  /** Whether `heal` is still owed. */
  needsHeal(): boolean {
    return this.#isLogSuspect;
  }

  /** Leaves one complete file with a checksum of it, if the disk allows; otherwise the log stays beside the file. */
  close(): void {
    if (this.#db.isOpen) closeSealed(this.#path, this.#db, () => this.checkpoint());
  }

  /** To be called before all other writes: notes who writes, and then puts the seal of the last stop away. */
  begin(meta: JournalMeta): void {
    this.#transaction(() => this.#sql.boot.run(meta.nodeId, meta.generation, meta.boots));
    unsealCleanStop(this.#path);
  }

  /** Notes what this start is called, before anybody hears of it. */
  nameStart(boot: string): void {
    this.#transaction(() => {
      this.#db.exec(STARTS_SCHEMA);
      this.#db.prepare("DELETE FROM starts WHERE number <= (SELECT max(number) FROM starts) - ?").run(MAX_STARTS);
      // Numbered by itself: a program of the first version may have run in between, and counts without a name.
      this.#db.prepare("INSERT INTO starts (number, boot) SELECT 1 + ifnull(max(number), 0), ? FROM starts").run(boot);
    });
  }

  /** Who writes from now on, and, where those on disk are none that anybody goes on from, from which numbers. */
  boot(meta: JournalMeta, numbers: SeqNumbers | undefined): void {
    this.#transaction(() => {
      this.#sql.boot.run(meta.nodeId, meta.generation, meta.boots);
      if (numbers !== undefined) this.#settle(numbers);
    });
  }

  /** Rows above are written again under new numbers by a batch to come: until then they are among those given out. */
  #settle({ lastSeq, floor }: SeqNumbers): void {
    const above = Number(this.#sql.highest.get()?.["seq"] ?? 0);
    this.#sql.settle.run(Math.max(lastSeq, above), floor);
    this.#isSettled = above <= lastSeq;
  }

  /** Applies an encoded batch in one transaction: when this returns, it is on disk. Rows in `buffer` are completed in place. */
  write(buffer: ArrayBuffer): void {
    const marks = batchMarks(buffer);
    const index = this.#index;
    const nextLease = index.nextLease;
    index.keys.begin(marks.putCount);
    index.leases.begin(marks.leaseCount);
    try {
      this.#transaction(() => {
        visitBatch(buffer, this.#visitor());
        if (this.#isSettled) this.#sql.marks.run(marks.lastSeq, marks.floor);
        else this.#settle(marks);
      });
    } catch (error) {
      index.keys.rollback();
      index.leases.rollback();
      index.nextLease = nextLease;
      throw error;
    }
  }

  #visitor() {
    const sql = this.#sql;
    const index = this.#index;
    let last = { id: "", lease: NO_LEASE };
    const leaseNumber = (id: string): number => {
      if (id === "") return NO_LEASE;
      if (id === last.id) return last.lease;
      const lease = index.leases.find(index.hashText(id), (number) => sql.isLease.get(number, id) !== undefined);
      if (lease === undefined) throw new Error(`a row names lease ${id}, which was never written`);
      last = { id, lease };
      return lease;
    };
    return {
      forget: (key: Uint8Array) => {
        index.keys.remove(index.hash(key), (seq) => sql.deleteRow.run(seq, key.length, key).changes === 1);
      },
      lease: (lease: JournalLease) => {
        const hash = index.hashText(lease.leaseId);
        const known = index.leases.find(hash, (number) => sql.isLease.get(number, lease.leaseId) !== undefined);
        const number = known ?? this.#newLease();
        if (known === undefined) index.leases.replace(hash, number, () => false);
        sql.putLease.run(number, lease.leaseId, lease.ttlMs, lease.principal, lease.idempotencyKey, lease.grantedWallMs);
      },
      put: (row: Row, leaseId: string) => {
        sealRow(row.bytes, leaseNumber(leaseId), crc32);
        const key = row.keyBytes;
        index.keys.replace(index.hash(key), row.seq, (seq) => sql.deleteRow.run(seq, key.length, key).changes === 1);
        sql.insertRow.run(row.seq, row.bytes);
      },
      endLease: (id: string) => {
        index.leases.remove(index.hashText(id), (number) => sql.deleteLease.run(number, id).changes === 1);
      },
    };
  }

  /** The next number; after the highest one, which only a file that somebody changed has so far, those that no lease has. */
  #newLease(): number {
    const index = this.#index;
    if (index.nextLease <= MAX_LEASE) return index.nextLease++;
    let number = this.#nextFree;
    while (this.#sql.isNumber.get(number) !== undefined) number++;
    this.#nextFree = number + 1;
    return number;
  }

  #transaction(body: () => void): void {
    this.#sql.begin.run();
    try {
      body();
      this.#sql.commit.run();
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      throw error;
    }
  }
}
