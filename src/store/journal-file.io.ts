/** The journal's SQLite file before it is written to: created whole, or inspected and read without changing a byte of it. */
import { closeSync, existsSync, openSync, readFileSync, readSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync, type StatementSync } from "node:sqlite";
import { pathToFileURL } from "node:url";
import { crc32 } from "node:zlib";
import { syncDirectory, verifyCleanStop } from "./clean-stop.io.ts";
import { FORMAT_VERSION, type Row, visitRows } from "./journal-format.ts";
import type { JournalMeta, NumberedLease, Problem } from "./journal-thread.ts";
import { walDamage } from "./wal-check.ts";

/** "WayM" in the SQLite header, so that no other program's database is taken for a journal. */
const APPLICATION_ID = 0x5761794d;
const REPLAY_ROWS = 1000;
const SQLITE_IOERR = 10;

const SCHEMA = `
CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), node_id TEXT NOT NULL, generation INTEGER NOT NULL, boots INTEGER NOT NULL,
  last_seq INTEGER NOT NULL, floor INTEGER NOT NULL, heals INTEGER NOT NULL) STRICT;
CREATE TABLE leases (lease INTEGER PRIMARY KEY, lease_id TEXT NOT NULL, ttl_ms INTEGER NOT NULL, principal TEXT NOT NULL,
  idempotency_key TEXT NOT NULL, granted_wall_ms INTEGER NOT NULL) STRICT;
CREATE TABLE records (seq INTEGER PRIMARY KEY, row BLOB NOT NULL) STRICT;
PRAGMA application_id = ${APPLICATION_ID};
PRAGMA user_version = ${FORMAT_VERSION};
`;

/** The file is not one to be used; it has not been changed. The message says what is wrong and what can be done. */
export class JournalRefused extends Error {
  readonly problem: Problem;

  constructor(problem: Problem, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "JournalRefused";
    this.problem = problem;
  }
}

export function journalPath(directory: string): string {
  return join(directory, "journal.db");
}

function sizeBytes(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** Creates the file whole or not at all: a crash half-way leaves only a temporary file, which the next start removes. */
export function createJournalFile(directory: string, meta: JournalMeta): void {
  const path = journalPath(directory);
  const temporary = `${path}.new`;
  for (const suffix of ["", "-wal", "-shm", "-journal"]) rmSync(temporary + suffix, { force: true });
  closeSync(openSync(temporary, "wx", 0o600));
  const db = new DatabaseSync(temporary);
  try {
    // The log is turned on when all is written: a close that could not empty it would leave the file without its tables.
    db.exec(`PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; BEGIN; ${SCHEMA}`);
    const insert = db.prepare("INSERT INTO meta VALUES (1, ?, ?, ?, ?, ?, 0)");
    insert.run(meta.nodeId, meta.generation, meta.boots, meta.lastSeq, meta.floor);
    db.exec("COMMIT; PRAGMA journal_mode = WAL");
  } finally {
    db.close();
  }
  if (sizeBytes(`${temporary}-wal`) > 0 || sizeBytes(`${temporary}-journal`) > 0)
    throw new Error(`${temporary} was not written to its end`);
  renameSync(temporary, path);
  syncDirectory(directory);
}

/** Reads the header as bytes, before SQLite could touch anything. Throws `JournalRefused`. */
function checkHeader(path: string): void {
  const header = Buffer.alloc(100);
  const descriptor = openSync(path, "r");
  try {
    if (readSync(descriptor, header, 0, 100, 0) < 100) throw damaged(path, "it is shorter than a header");
  } finally {
    closeSync(descriptor);
  }
  if (header.toString("latin1", 0, 16) !== "SQLite format 3\0") throw damaged(path, "it does not start as an SQLite file does");
  const applicationId = header.readUInt32BE(68);
  if (applicationId !== APPLICATION_ID) throw damaged(path, `its application id is ${applicationId}, a journal's is ${APPLICATION_ID}`);
  const version = header.readUInt32BE(60);
  if (version > FORMAT_VERSION) {
    throw new JournalRefused(
      "newer_format",
      `${path} has format version ${version}, this program reads up to ${FORMAT_VERSION}: start the newer program, or use another data directory`,
    );
  }
}

function damaged(path: string, problem: string, cause?: unknown): JournalRefused {
  return new JournalRefused(
    "corrupt",
    `${path} is damaged: ${problem}; it was left as it is: restore a backup, or move the directory away to start empty`,
    cause,
  );
}

/** A disk that cannot be read says nothing about the file; what else SQLite complains of while reading is damage. */
function refusalOf(path: string, error: unknown): unknown {
  if (error instanceof JournalRefused || !(error instanceof Error)) return error;
  const code = "errcode" in error && typeof error.errcode === "number" ? error.errcode & 0xff : 0;
  return code === SQLITE_IOERR ? error : damaged(path, error.message, error);
}

/** The journal before it is written to: everything is checked while it is read, and nothing on disk changes. */
export class JournalReader {
  readonly #path: string;
  readonly #hadShm: boolean;
  readonly #db: DatabaseSync;
  readonly #next: StatementSync;
  #afterSeq = 0;
  #rows = 0;
  readonly meta: JournalMeta;
  readonly leases: readonly NumberedLease[];

  constructor(directory: string) {
    const path = journalPath(directory);
    this.#path = path;
    checkHeader(path);
    const walBytes = sizeBytes(`${path}-wal`);
    if (walBytes === 0 && !verifyCleanStop(directory, path)) throw damaged(path, "it is not the file that the last clean stop left");
    const logDamage = walBytes === 0 ? undefined : walDamage(readFileSync(`${path}-wal`));
    if (logDamage !== undefined) throw damaged(path, logDamage);
    this.#hadShm = existsSync(`${path}-shm`);
    // Without a log the file is complete by itself and can be read without locks or side files. With one, a read-only
    // connection still cannot checkpoint: the log and the file stay as they are when it closes.
    this.#db = new DatabaseSync(walBytes === 0 ? new URL(`${pathToFileURL(path).href}?immutable=1`) : path, { readOnly: true });
    try {
      const check = this.#db.prepare("PRAGMA quick_check(1)").get();
      if (check?.["quick_check"] !== "ok") throw damaged(path, String(check?.["quick_check"]));
      this.meta = readMeta(this.#db, path);
      this.leases = readLeases(this.#db);
      this.#next = this.#db.prepare(
        "SELECT CAST(group_concat(row, '' ORDER BY seq) AS BLOB) AS rows FROM (SELECT seq, row FROM records WHERE seq > ? ORDER BY seq LIMIT ?)",
      );
    } catch (error) {
      this.close();
      throw refusalOf(path, error);
    }
  }

  /**
   * The next rows in seq order, one after the other in one buffer of its own; undefined at the end. Each is given to
   * `onRow` as well. Throws `JournalRefused` when what is stored is not what was written.
   */
  next(onRow: (row: Row) => void): Uint8Array<ArrayBuffer> | undefined {
    try {
      // One value for many rows: a result row and a buffer for each of them took four times as long (bench/journal.ts).
      const rows = this.#next.get(this.#afterSeq, REPLAY_ROWS)?.["rows"];
      if (!(rows instanceof Uint8Array)) return this.#end();
      const damage = visitRows(rows, { afterSeq: this.#afterSeq, crc32 }, (row) => {
        this.#afterSeq = row.seq;
        this.#rows++;
        onRow(row);
      });
      if (damage !== undefined) throw damaged(this.#path, `the row after seq ${damage.seq} ${damage.problem}`);
      return rows;
    } catch (error) {
      throw refusalOf(this.#path, error);
    }
  }

  #end(): undefined {
    const stored = this.#db.prepare("SELECT count(*) AS stored FROM records").get()?.["stored"];
    if (stored !== this.#rows) throw damaged(this.#path, `it holds ${String(stored)} rows, but ${this.#rows} were found`);
    if (this.#afterSeq > this.meta.lastSeq)
      throw damaged(this.#path, `it holds seq ${this.#afterSeq}, but the highest given out is ${this.meta.lastSeq}`);
    return undefined;
  }

  close(): void {
    if (this.#db.isOpen) this.#db.close();
    if (!this.#hadShm) rmSync(`${this.#path}-shm`, { force: true });
  }
}

function readMeta(db: DatabaseSync, path: string): JournalMeta {
  const version = db.prepare("PRAGMA user_version").get()?.["user_version"];
  if (version !== FORMAT_VERSION) throw damaged(path, `its format version is ${String(version)}, expected ${FORMAT_VERSION}`);
  const row = db.prepare("SELECT node_id, generation, boots, last_seq, floor FROM meta WHERE one = 1").get();
  if (row === undefined) throw damaged(path, "it does not say which node it belongs to");
  return {
    nodeId: String(row["node_id"]),
    generation: Number(row["generation"]),
    boots: Number(row["boots"]),
    lastSeq: Number(row["last_seq"]),
    floor: Number(row["floor"]),
  };
}

function readLeases(db: DatabaseSync): readonly NumberedLease[] {
  const leases: NumberedLease[] = [];
  const all = db.prepare("SELECT lease, lease_id, ttl_ms, principal, idempotency_key, granted_wall_ms FROM leases ORDER BY lease");
  for (const row of all.iterate()) {
    leases.push({
      lease: Number(row["lease"]),
      leaseId: String(row["lease_id"]),
      ttlMs: Number(row["ttl_ms"]),
      principal: String(row["principal"]),
      idempotencyKey: String(row["idempotency_key"]),
      grantedWallMs: Number(row["granted_wall_ms"]),
    });
  }
  return leases;
}
