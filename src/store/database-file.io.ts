/** An SQLite file of ours before it is written to: created whole, or inspected without changing a byte of it. */
import { closeSync, existsSync, openSync, readFileSync, readSync, renameSync, rmSync, statfsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { pathToFileURL } from "node:url";
import { hasSeal, readSeal, sealCleanStop, syncDirectory } from "./clean-stop.io.ts";
import { type DatabaseFormat, damageText, type FileProblem } from "./database-format.ts";
import { lockDirectory } from "./directory-lock.io.ts";
import { walDamage } from "./journal/wal-check.ts";

/** SQLite's codes for a disk that cannot be read, that is full, and on which a side file cannot be made. */
const DISK_CODES: readonly number[] = [10, 13, 14];
const SQLITE_FULL = 13;
/** A file system with less room than this is full: SQLite's side file alone has 32 KiB. */
const LEAST_ROOM_BYTES = 64 << 10;

/** The file is not one to be used; it has not been changed. The message says what is wrong and what can be done. */
export class FileRefused extends Error {
  readonly problem: FileProblem;

  constructor(problem: FileProblem, message: string, cause?: unknown) {
    super(message, { cause });
    this.name = "FileRefused";
    this.problem = problem;
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** 0 when there is none. */
export function fileBytes(path: string): number {
  return statSync(path, { throwIfNoEntry: false })?.size ?? 0;
}

/** Keeps every other process away from a database; gives back what lets go of it. Throws `FileRefused` when it is in use. */
export function lockDatabase(directory: string, format: DatabaseFormat): () => void {
  const lock = lockDirectory(directory, format.name);
  if (lock.isHeld) return lock.release;
  const holder = lock.holder === undefined ? "another process" : `process ${lock.holder}`;
  throw new FileRefused("in_use", `data directory ${directory} is in use by ${holder}: stop it, or name another directory`);
}

/**
 * Creates the file if it is missing, whole or not at all: a crash half-way leaves only a temporary file, which the next
 * start removes. Throws `FileRefused` when there is a log without its file.
 */
export function createIfMissing(path: string, format: DatabaseFormat, fill: (db: DatabaseSync) => void): void {
  if (existsSync(path)) return;
  if (existsSync(`${path}-wal`))
    throw new FileRefused("corrupt", `${path}-wal is there without ${path}: restore both, or move the directory away to start empty`);
  const temporary = `${path}.new`;
  // A crash between the seal and the file's name leaves both the seal and the temporary file.
  if (format.isSealed && hasSeal(path) && !existsSync(temporary))
    throw new FileRefused("corrupt", `${path} is missing beside its seal: restore both, or move the directory away to start empty`);
  for (const suffix of ["", "-wal", "-shm", "-journal"]) rmSync(temporary + suffix, { force: true });
  closeSync(openSync(temporary, "wx", 0o600));
  const db = new DatabaseSync(temporary);
  try {
    // The log is turned on when all is written: a close that could not empty it would leave the file without its tables.
    db.exec(`PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = FULL; BEGIN; ${format.schema}`);
    db.exec(`PRAGMA application_id = ${format.applicationId}; PRAGMA user_version = ${format.version}`);
    fill(db);
    db.exec("COMMIT; PRAGMA journal_mode = WAL");
  } finally {
    db.close();
  }
  if (fileBytes(`${temporary}-wal`) > 0 || fileBytes(`${temporary}-journal`) > 0)
    throw new Error(`${temporary} was not written to its end`);
  if (format.isSealed) sealCleanStop(path, temporary);
  renameSync(temporary, path);
  syncDirectory(dirname(path));
}

/** Reads the header as bytes, before SQLite could touch anything. Throws `FileRefused`. */
function checkHeader(path: string, format: DatabaseFormat): void {
  const header = Buffer.alloc(100);
  const descriptor = openSync(path, "r");
  try {
    if (readSync(descriptor, header, 0, 100, 0) < 100) throw damaged(path, "it is shorter than a header");
  } finally {
    closeSync(descriptor);
  }
  if (header.toString("latin1", 0, 16) !== "SQLite format 3\0") throw damaged(path, "it does not start as an SQLite file does");
  const applicationId = header.readUInt32BE(68);
  if (applicationId !== format.applicationId)
    throw damaged(path, `its application id is ${applicationId}, ${format.name}.db has ${format.applicationId}`);
  const version = header.readUInt32BE(60);
  if (version > format.version) {
    throw new FileRefused(
      "newer_format",
      `${path} has format version ${version}, this program reads up to ${format.version}: start the newer program, or use another data directory`,
    );
  }
}

/** Of a file whose log is empty or not there. */
function checkSeal(path: string, format: DatabaseFormat, takesAsItIs: boolean): void {
  const seal = readSeal(path);
  if (seal === "wrong") throw damaged(path, "it is not the file that the last clean stop left");
  if (!format.isSealed || seal === "right" || takesAsItIs || existsSync(`${path}-wal`)) return;
  throw new FileRefused(
    "corrupt",
    `${path} has lost its log: after a crash ${path}-wal holds what was written last, and no clean stop left ${format.name}.sum; ` +
      "nothing was changed: put the log back, or start with --new-generation to take what is there as it is",
  );
}

export function damaged(path: string, problem: string, cause?: unknown): FileRefused {
  return new FileRefused("corrupt", damageText(path, problem), cause);
}

/** A disk that cannot be read says nothing about the file; what else SQLite complains of while reading is damage. */
export function refusalOf(path: string, error: unknown): unknown {
  if (error instanceof FileRefused || !(error instanceof Error)) return error;
  return DISK_CODES.includes(sqliteCode(error)) ? error : damaged(path, error.message, error);
}

function sqliteCode(error: Error): number {
  return "errcode" in error && typeof error.errcode === "number" ? error.errcode & 0xff : 0;
}

/** Whether the disk had no room: it says so, or SQLite could not make a side file where there is none. */
function isDiskFull(error: unknown, directory: string): boolean {
  if (!(error instanceof Error)) return false;
  const code = sqliteCode(error);
  if (code === SQLITE_FULL || ("code" in error && (error.code === "ENOSPC" || error.code === "EDQUOT"))) return true;
  if (!DISK_CODES.includes(code) || !existsSync(directory)) return false;
  const { bavail, bsize } = statfsSync(directory);
  return bavail * bsize < LEAST_ROOM_BYTES;
}

/** What to tell of an error that kept a directory from being opened. */
export function refusedBy(error: unknown, directory: string): FileRefused {
  if (error instanceof FileRefused) return error;
  if (isDiskFull(error, directory))
    return new FileRefused(
      "disk_full",
      `data directory ${directory} cannot be used: disk full (${messageOf(error)}): make room and start again`,
    );
  return new FileRefused("unreadable", `data directory ${directory} cannot be used: ${messageOf(error)}`);
}

export interface InspectOptions {
  /** Whether a file that lost its log is taken as it is. */
  readonly takesAsItIs: boolean;
}

/** A file open for reading: all that can be checked without knowing its rows has been, and nothing on disk changed. */
export class Inspection {
  readonly #path: string;
  readonly #hadShm: boolean;
  readonly db: DatabaseSync;

  /** Throws `FileRefused`. */
  constructor(path: string, format: DatabaseFormat, { takesAsItIs }: InspectOptions = { takesAsItIs: false }) {
    this.#path = path;
    checkHeader(path, format);
    const walBytes = fileBytes(`${path}-wal`);
    if (walBytes === 0) checkSeal(path, format, takesAsItIs);
    const logDamage = walBytes === 0 ? undefined : walDamage(readFileSync(`${path}-wal`));
    if (logDamage !== undefined) throw damaged(path, logDamage);
    this.#hadShm = existsSync(`${path}-shm`);
    // Without a log the file is complete by itself and can be read without locks or side files. With one, a read-only
    // connection still cannot checkpoint: the log and the file stay as they are when it closes.
    this.db = new DatabaseSync(walBytes === 0 ? new URL(`${pathToFileURL(path).href}?immutable=1`) : path, { readOnly: true });
    try {
      const check = this.db.prepare("PRAGMA quick_check(1)").get();
      if (check?.["quick_check"] !== "ok") throw damaged(path, String(check?.["quick_check"]));
      const version = this.db.prepare("PRAGMA user_version").get()?.["user_version"];
      if (version !== format.version) throw damaged(path, `its format version is ${String(version)}, expected ${format.version}`);
    } catch (error) {
      this.close();
      throw refusalOf(path, error);
    }
  }

  /** Reads something of the file; what SQLite complains of becomes `FileRefused`, and the file is closed. */
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
