/** Prepares a Waymark SQLite file for the first write: locks it, and either creates it completely or checks it without changing it. */
import { closeSync, existsSync, openSync, readFileSync, readSync, renameSync, rmSync, statfsSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { pathToFileURL } from "node:url";
import { makePrivateDirectory } from "../lib/private-directory.io.ts";
import { hasSeal, readSeal, sealCleanStop, syncDirectory } from "./clean-stop.io.ts";
import { readWatermark } from "./commit-watermark.io.ts";
import { walDamage } from "./wal-check.ts";

/** The reason why a directory or file is rejected. */
export type FileFault = "corrupt" | "other_format" | "in_use" | "other_node" | "disk_full" | "unreadable";

/** How database files of one kind are recognized and created. */
export interface DatabaseFormat {
  /** With `journal`, the files are `journal.db`, `journal.lock`, … */
  readonly name: string;
  /** The application ID in the SQLite header. */
  readonly applicationId: number;
  /** Whether the file must have the seal of a clean stop if it has no write-ahead log (`clean-stop.io.ts`). */
  readonly isSealed: boolean;
  /** SQL that reads `number`, the number of the last commit, which is compared with the watermark (`commit-watermark.io.ts`). */
  readonly lastCommit: string;
  /** SQL that creates the tables. */
  readonly schema: string;
}

/**
 * The number of the format of all database files, stored in the SQLite header. 1 is the format of all versions before the first release. Only the
 * current format is read (decision 31).
 */
export const STORED_FORMAT = 2;

/** SQLite's error codes for three cases: the disk cannot be read (10), the disk is full (13), and a side file cannot be created (14). */
const DISK_CODES: readonly number[] = [10, 13, 14];
const SQLITE_BUSY = 5;
const SQLITE_FULL = 13;
/** If less space than this is free, the file system is considered full: SQLite's side file alone uses 32 KiB. */
const LEAST_ROOM_BYTES = 64 << 10;

/** Thrown if a file must not be used; the file has not been changed. The message contains the fault and a remedy. */
export class FileRefusedError extends Error {
  readonly problem: FileFault;

  constructor(problem: FileFault, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "FileRefusedError";
    this.problem = problem;
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Returns the size of a file in bytes, or 0 if the file does not exist. */
export function fileBytes(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/**
 * Creates the directory (mode 700) if it is missing, and locks the database against other processes. Returns the function that unlocks it.
 * Throws `FileRefusedError` if another process holds the lock. The lock is SQLite's exclusive file lock. The kernel releases this lock whenever the
 * process ends, so no lock is ever stale.
 */
export function lockDatabase(directory: string, { name }: Pick<DatabaseFormat, "name">): () => void {
  makePrivateDirectory(directory);
  const pidPath = join(directory, `${name}.pid`);
  // A separate file is locked, because this module reads the database's header, and closing any descriptor of a locked file drops its POSIX lock.
  const lock = new DatabaseSync(join(directory, `${name}.lock`), { timeout: 0 });
  try {
    lock.exec("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE");
  } catch (error) {
    lock.close();
    if (!(error instanceof Error && sqliteCode(error) === SQLITE_BUSY)) throw error;
    const holder = readHolder(pidPath);
    throw new FileRefusedError("in_use", `data directory ${directory} is in use by ${holder}: stop it, or use another directory`);
  }
  try {
    writeFileSync(pidPath, `${process.pid}\n`);
  } catch {
    // If this content is missing, the error message for another process is merely less specific. A full disk must not prevent a node from starting.
  }
  return () => {
    rmSync(pidPath, { force: true });
    lock.close();
  };
}

function readHolder(pidPath: string): string {
  try {
    const pid = readFileSync(pidPath, "utf8").trim();
    if (pid !== "") return `process ${pid}`;
  } catch {
    // The file was not written or cannot be read. This is harmless, because only the lock itself matters.
  }
  return "another process";
}

/**
 * Creates the file if it is missing, atomically: a crash during creation leaves only a temporary file, which the next start removes. Throws
 * `FileRefusedError` if a write-ahead log or a seal exists without its file.
 */
export function createIfMissing(path: string, format: DatabaseFormat, fill: (db: DatabaseSync) => void): void {
  if (existsSync(path)) return;
  if (existsSync(`${path}-wal`))
    throw new FileRefusedError("corrupt", `${path}-wal exists without ${path}: restore both, or move the directory away to start empty`);
  const temporary = `${path}.new`;
  // A crash between sealing and renaming leaves the seal and the temporary file.
  if (format.isSealed && hasSeal(path) && !existsSync(temporary))
    throw new FileRefusedError(
      "corrupt",
      `${path} is missing, but its seal exists: restore both, or move the directory away to start empty`,
    );
  for (const suffix of ["", "-wal", "-shm", "-journal"]) rmSync(temporary + suffix, { force: true });
  closeSync(openSync(temporary, "wx", 0o600));
  const db = new DatabaseSync(temporary);
  try {
    // The write-ahead log is enabled after everything has been written. Otherwise, the file would have no tables if closing it failed to empty the
    // write-ahead log.
    db.exec(`PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; BEGIN; ${format.schema}`);
    db.exec(`PRAGMA application_id = ${format.applicationId}; PRAGMA user_version = ${STORED_FORMAT}`);
    fill(db);
    db.exec("COMMIT; PRAGMA journal_mode = WAL");
  } finally {
    db.close();
  }
  if (fileBytes(`${temporary}-wal`) > 0 || fileBytes(`${temporary}-journal`) > 0)
    throw new Error(`${temporary} was not written completely`);
  if (format.isSealed) sealCleanStop(path, temporary);
  renameSync(temporary, path);
  syncDirectory(dirname(path));
}

/** Checks the bytes of the header before SQLite opens the file. Throws `FileRefusedError`. */
function checkHeader(path: string, format: DatabaseFormat): void {
  const header = Buffer.alloc(100);
  const descriptor = openSync(path, "r");
  try {
    if (readSync(descriptor, header, 0, 100, 0) < 100) throw damaged(path, "it is shorter than an SQLite header");
  } finally {
    closeSync(descriptor);
  }
  if (header.toString("latin1", 0, 16) !== "SQLite format 3\0") throw damaged(path, "it does not start with an SQLite header");
  const applicationId = header.readUInt32BE(68);
  if (applicationId !== format.applicationId)
    throw damaged(path, `its application id is ${applicationId}, expected ${format.applicationId} for ${format.name}.db`);
  const version = header.readUInt32BE(60);
  if (version === STORED_FORMAT) return;
  const what =
    version > STORED_FORMAT
      ? "start a newer version of the program, or use another data directory"
      : "use an empty data directory, because data from before the first release cannot be upgraded";
  throw new FileRefusedError("other_format", `${path} has format ${version}, but this program reads format ${STORED_FORMAT}: ${what}`);
}

/** Checks the seal of a file whose write-ahead log is empty or missing. Throws `FileRefusedError`. */
function checkSeal(path: string, format: DatabaseFormat, takesAsItIs: boolean): void {
  const seal = readSeal(path);
  if (seal === "wrong") throw damaged(path, "it has changed since the last clean stop");
  if (!format.isSealed || seal === "right" || takesAsItIs || existsSync(`${path}-wal`)) return;
  throw lostLog(path, `${path}-wal is missing, and there is no ${format.name}.sum from a clean stop`);
}

/** Compares the database's last commit with the watermark. Throws `FileRefusedError` if commits have been lost. */
function checkWatermark(path: string, format: DatabaseFormat, db: DatabaseSync): void {
  const { last, watermark } = lastCommits(path, format, db);
  if (last >= watermark) return;
  throw lostLog(
    path,
    `${path}-wal is truncated: it ends with commit ${last}, but commit ${watermark} had been written to disk (${format.name}.mark)`,
  );
}

/** The numbers of the last commit according to the database and according to the watermark. */
export function lastCommits(path: string, format: DatabaseFormat, db: DatabaseSync) {
  return { last: Number(db.prepare(format.lastCommit).get()?.["number"] ?? 0), watermark: readWatermark(path) };
}

/** Returns the error for a file whose write-ahead log is missing or incomplete. */
function lostLog(path: string, how: string): FileRefusedError {
  return new FileRefusedError(
    "corrupt",
    `${path} has lost its log: ${how}; nothing was changed: put the log back, or start with --new-generation to accept the remaining data`,
  );
}

/** Returns the error for a file with contents that Waymark never writes. */
export function damaged(path: string, problem: string, cause?: unknown): FileRefusedError {
  return new FileRefusedError("corrupt", damageText(path, problem), cause);
}

/** Returns the message about a damaged file. */
export function damageText(path: string, problem: string): string {
  return `${path} is damaged: ${problem}; it was left unchanged: restore a backup, or move the directory away to start empty`;
}

/** Returns the error to throw for a read error. Disk errors do not mean that the file is damaged, but all other errors do. */
export function refusalOf(path: string, error: unknown): unknown {
  if (error instanceof FileRefusedError || !(error instanceof Error)) return error;
  return DISK_CODES.includes(sqliteCode(error)) ? error : damaged(path, error.message, error);
}

function sqliteCode(error: Error): number {
  return "errcode" in error && typeof error.errcode === "number" ? error.errcode & 0xff : 0;
}

/** Whether the disk is full: either the error states this, or SQLite could not create a side file and little space is left. */
function isDiskFull(error: unknown, directory: string): boolean {
  if (!(error instanceof Error)) return false;
  const code = sqliteCode(error);
  if (code === SQLITE_FULL || ("code" in error && (error.code === "ENOSPC" || error.code === "EDQUOT"))) return true;
  if (!DISK_CODES.includes(code) || !existsSync(directory)) return false;
  const { bavail, bsize } = statfsSync(directory);
  return bavail * bsize < LEAST_ROOM_BYTES;
}

/** Returns the error to report if a directory could not be opened. */
export function refusedBy(error: unknown, directory: string): FileRefusedError {
  if (error instanceof FileRefusedError) return error;
  if (isDiskFull(error, directory))
    return new FileRefusedError(
      "disk_full",
      `data directory ${directory} cannot be used: disk full (${messageOf(error)}): free some space and start again`,
    );
  return new FileRefusedError("unreadable", `data directory ${directory} cannot be used: ${messageOf(error)}`);
}

export interface InspectOptions {
  /** Whether to accept a file that has lost all or part of its write-ahead log. */
  readonly takesAsItIs: boolean;
}

/** A file that is open for reading. The constructor makes all checks for which it need not read the rows. The constructor changes nothing on disk. */
export class FileInspection {
  readonly #path: string;
  readonly #hadShm: boolean;
  readonly db: DatabaseSync;

  /** Throws `FileRefusedError`. */
  constructor(path: string, format: DatabaseFormat, { takesAsItIs }: InspectOptions) {
    this.#path = path;
    checkHeader(path, format);
    const walBytes = fileBytes(`${path}-wal`);
    if (walBytes === 0) checkSeal(path, format, takesAsItIs);
    const logDamage = walBytes === 0 ? undefined : walDamage(readFileSync(`${path}-wal`));
    if (logDamage !== undefined) throw damaged(path, logDamage);
    this.#hadShm = existsSync(`${path}-shm`);
    // Without a write-ahead log, the file is complete, and is read without locks or side files. With a write-ahead log, the connection is read-only
    // and cannot checkpoint, so closing it changes neither the log nor the file.
    this.db = new DatabaseSync(walBytes === 0 ? new URL(`${pathToFileURL(path).href}?immutable=1`) : path, { readOnly: true });
    try {
      const check = this.db.prepare("PRAGMA quick_check(1)").get();
      if (check?.["quick_check"] !== "ok") throw damaged(path, String(check?.["quick_check"]));
      const version = this.db.prepare("PRAGMA user_version").get()?.["user_version"];
      if (version !== STORED_FORMAT) throw damaged(path, `its format is ${String(version)}, expected ${STORED_FORMAT}`);
      if (!takesAsItIs) checkWatermark(path, format, this.db);
    } catch (error) {
      this.close();
      throw refusalOf(path, error);
    }
  }

  /** Runs `body` on the file. If `body` throws, closes the file and converts SQLite errors to `FileRefusedError`. */
  read<T>(body: (db: DatabaseSync) => T): T {
    try {
      return body(this.db);
    } catch (error) {
      this.close();
      throw refusalOf(this.#path, error);
    }
  }

  close(): void {
    if (this.db.isOpen) this.db.close();
    if (!this.#hadShm) rmSync(`${this.#path}-shm`, { force: true });
  }
}

/**
 * Opens a checked file for writing and enables its write-ahead log. The lock is exclusive, so there is no shared-memory file. Each commit is on disk
 * when it returns.
 */
export function openForWriting(path: string): DatabaseSync {
  const db = new DatabaseSync(path);
  db.exec("PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
  return db;
}

interface OpenOptions<T> extends InspectOptions {
  readonly directory: string;
  /** The name of the file in the directory. */
  readonly file: string;
  /** Fills a new file. */
  readonly fill: (db: DatabaseSync) => void;
  /** Reads the file before anything on disk is changed. */
  readonly check: (db: DatabaseSync, path: string) => T;
}

/**
 * Locks the file, creates it if it is missing, checks it, and opens it for writing. `found` is the value that `check` returned. Throws
 * `FileRefusedError`, without changes, if the file is in use, is damaged, or has another format.
 */
export function openDatabase<T>(format: DatabaseFormat, { directory, file, fill, check, takesAsItIs }: OpenOptions<T>) {
  const path = join(directory, file);
  const unlock = lockDatabase(directory, format);
  try {
    createIfMissing(path, format, fill);
    const inspection = new FileInspection(path, format, { takesAsItIs });
    const found = inspection.read((db) => check(db, path));
    inspection.close();
    return { path, db: openForWriting(path), unlock, found };
  } catch (error) {
    unlock();
    throw error;
  }
}

/**
 * Returns a function that runs `body` in one transaction of `db`, and rolls it back if `body` throws. HOT: runs once per batch. `exec` would cost 1.3
 * µs more.
 */
export function transactions(db: DatabaseSync): (body: () => void) => void {
  const [begin, commit] = [db.prepare("BEGIN IMMEDIATE"), db.prepare("COMMIT")];
  return (body) => {
    begin.run();
    try {
      body();
      commit.run();
    } catch (error) {
      if (db.isTransaction) db.exec("ROLLBACK");
      throw error;
    }
  };
}
