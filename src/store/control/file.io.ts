/** The control store's database, in an SQLite file or in memory: one row per key, whose rowid is the version, with a checksum in every row. */
import { DatabaseSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import { closeSealed, unsealCleanStop } from "../clean-stop.io.ts";
import { CommitWatermark, readWatermark } from "../commit-watermark.io.ts";
import { DATA_FILES } from "../data-directory.ts";
import { type DatabaseFormat, damaged, type InspectOptions, openDatabase, transactions } from "../database-file.io.ts";
import type { ThreadOwner, TransferBuffer } from "../thread.io.ts";
import {
  checkRoom,
  MAX_PAGE_BYTES,
  type StoreBounds,
  type StoreCondition,
  type StoreItem,
  type StorePage,
  type StorePageRequest,
  type StoreUse,
  type StoreWrite,
  type TransactResult,
} from "./store.ts";

const CONTROL: DatabaseFormat = {
  name: "control",
  // "WayC".
  applicationId: 0x57617943,
  isSealed: true,
  lastCommit: "SELECT revision AS number FROM meta WHERE one = 1",
  schema: `
CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), revision INTEGER NOT NULL) STRICT;
CREATE TABLE items (version INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, value BLOB NOT NULL, sum INTEGER NOT NULL) STRICT;
`,
};

/** Conditions and changes that `checkTransaction` accepts. */
export interface TransactRequest {
  readonly conditions: readonly StoreCondition[];
  readonly changes: readonly StoreWrite[];
}

/** The first character that sorts after all characters allowed in a key. */
const ABOVE_KEYS = "\u007f";

export interface ControlFileOptions extends InspectOptions {
  /** The directory of the file. If undefined, the database is in memory and ends with the process. */
  readonly directory: string | undefined;
  readonly bounds: StoreBounds;
}

/** The columns of an SQLite result row. */
type SqlRow = Readonly<Record<string, unknown>>;

function prepareAll(db: DatabaseSync) {
  return {
    transaction: transactions(db),
    byKey: db.prepare("SELECT version, key, value, sum FROM items WHERE key = ?"),
    list: db.prepare("SELECT version, key, value, sum FROM items WHERE key > ? AND key >= ? AND key < ? ORDER BY key"),
    remove: db.prepare("DELETE FROM items WHERE key = ?"),
    insert: db.prepare("INSERT INTO items VALUES (?, ?, ?, ?)"),
    setRevision: db.prepare("UPDATE meta SET revision = ?"),
    usage: db.prepare("SELECT count(*) AS items, coalesce(sum(length(key) + length(value)), 0) AS bytes FROM items"),
    revision: db.prepare("SELECT revision FROM meta WHERE one = 1"),
  };
}

/** The revision and size of the file after its last commit. */
interface FileState extends StoreUse {
  readonly revision: number;
}

/** The open file. Methods throw SQLite's errors unchanged. A change that failed is never visible in a later answer. */
export class ControlFile implements ThreadOwner {
  readonly opened: undefined;
  readonly #bounds: StoreBounds;
  readonly #opened: OpenDatabase;
  readonly #sql: ReturnType<typeof prepareAll>;
  #state: FileState;
  /** Whether nothing has been written since the file was opened. */
  #isSealed = true;

  /**
   * Creates missing files. Throws `FileRefusedError`, without changes, if the file is in use, is damaged, or was written by a newer program.
   */
  constructor({ directory, bounds, takesAsItIs }: ControlFileOptions) {
    this.#bounds = bounds;
    this.#opened = directory === undefined ? openInMemory() : openOnDisk(directory, { takesAsItIs });
    this.#sql = prepareAll(this.#opened.db);
    const usage = this.#sql.usage.get();
    this.#state = {
      // If a file is accepted although it has lost its last revisions, their numbers are not reused.
      revision: Math.max(Number(this.#sql.revision.get()?.["revision"]), this.#opened.watermark),
      items: Number(usage?.["items"]),
      totalBytes: Number(usage?.["bytes"]),
    };
  }

  get(key: string, move: TransferBuffer = keep): StoreItem | undefined {
    const item = this.#find(key);
    move(item?.value.buffer);
    return item;
  }

  list({ prefix, after, limit }: Required<StorePageRequest> & { readonly prefix: string }, move: TransferBuffer = keep): StorePage {
    const { items, isAll } = readPage(this.#sql.list.iterate(after, prefix, prefix + ABOVE_KEYS), { limit, path: this.#opened.path });
    for (const { value } of items) move(value.buffer);
    return { items, revision: this.#state.revision, nextAfter: isAll ? undefined : items.at(-1)?.key };
  }

  /** Works like `ControlStore.transact`. The changes are on disk when this method returns. Each change has its own revision. */
  transact({ conditions, changes }: TransactRequest): TransactResult {
    const before = this.#state;
    const found = conditions.map(({ key }) => this.#find(key)?.version ?? 0);
    if (conditions.some(({ version }, at) => version !== found[at]))
      return { isCommitted: false, revision: before.revision, versions: found };
    const after = { ...before };
    const versions = changes.map(({ key, value }) => {
      const held = this.#find(key)?.value;
      if (held === undefined && value === undefined) return 0;
      after.items += Number(value !== undefined) - Number(held !== undefined);
      after.totalBytes += sizeBytes(key, value) - sizeBytes(key, held);
      return ++after.revision;
    });
    checkRoom(before, after, this.#bounds);
    if (after.revision > before.revision) this.#commit(changes, versions, after);
    return { isCommitted: true, revision: after.revision, versions };
  }

  /** Closes the database, and leaves one complete file with its seal if the disk permits it. */
  close(): void {
    this.#opened.close();
  }

  #find(key: string): StoreItem | undefined {
    const row = this.#sql.byKey.get(key);
    return row === undefined ? undefined : readRow(row, this.#opened.path);
  }

  /** Writes the changes whose version is not 0. */
  #commit(changes: readonly StoreWrite[], versions: readonly number[], after: FileState): void {
    this.#unseal();
    this.#sql.transaction(() => {
      for (const [at, { key, value }] of changes.entries()) {
        const version = versions[at] ?? 0;
        if (version === 0) continue;
        this.#sql.remove.run(key);
        if (value !== undefined) this.#sql.insert.run(version, key, value, rowSum(version, key, value));
      }
      this.#sql.setRevision.run(after.revision);
    });
    this.#opened.noteRevision(after.revision);
    this.#state = after;
  }

  /** Called before the first change. Writes to the write-ahead log, syncs it, and then moves the seal of the last stop away. */
  #unseal(): void {
    if (!this.#isSealed) return;
    this.#sql.transaction(() => this.#sql.setRevision.run(this.#state.revision));
    this.#opened.unseal();
    this.#isSealed = false;
  }
}

/** A database that is ready for statements. */
interface OpenDatabase {
  /** The name of the database in messages. */
  readonly path: string;
  readonly db: DatabaseSync;
  /** Moves the seal of the last stop away. */
  unseal(): void;
  /** The revision in the watermark, or 0 if there is no watermark. */
  readonly watermark: number;
  /** Writes a revision that is on disk to the watermark. */
  noteRevision(revision: number): void;
  close(): void;
}

const EMPTY = "INSERT INTO meta VALUES (1, 0)";

function openInMemory(): OpenDatabase {
  const path = ":memory:";
  const db = new DatabaseSync(path);
  db.exec(`${CONTROL.schema}${EMPTY}`);
  return { path, db, unseal: () => {}, watermark: 0, noteRevision: () => {}, close: () => db.close() };
}

function openOnDisk(directory: string, options: InspectOptions): OpenDatabase {
  const fill = (db: DatabaseSync): void => db.exec(EMPTY);
  const { path, db, unlock } = openDatabase(CONTROL, { directory, file: DATA_FILES.control, fill, check: checkRows, ...options });
  const watermark = new CommitWatermark(path);
  const close = (): void => {
    watermark.close(closeSealed(path, db));
    unlock();
  };
  const note = (revision: number): void => {
    watermark.write(revision);
    watermark.sync();
  };
  return { path, db, unseal: () => unsealCleanStop(path), watermark: readWatermark(path), noteRevision: note, close };
}

/** Used by callers in the same thread. SQLite returns a separate buffer for each value, so other callers can move values to another thread. */
const keep: TransferBuffer = () => {};

/** Throws `FileRefusedError` if a row is damaged, or is newer than the revision of the store. */
function checkRows(db: DatabaseSync, path: string): void {
  const revision = db.prepare("SELECT revision FROM meta WHERE one = 1").get()?.["revision"];
  if (typeof revision !== "number") throw damaged(path, "its meta table has no revision");
  let last = 0;
  for (const row of db.prepare("SELECT version, key, value, sum FROM items ORDER BY version").iterate()) last = readRow(row, path).version;
  if (last > revision) throw damaged(path, `it has version ${last}, which is above its revision ${revision}`);
}

/** The size of an item in bytes, or 0 if there is no value. */
function sizeBytes(key: string, value: Uint8Array | undefined): number {
  return value === undefined ? 0 : key.length + value.length;
}

function rowSum(version: number, key: string, value: Uint8Array): number {
  return crc32(value, crc32(`${version} ${key} `));
}

/** Throws `FileRefusedError` if the row is damaged. */
function readRow({ version, key, value, sum }: SqlRow, path: string): StoreItem {
  const isWhole = typeof version === "number" && typeof key === "string" && value instanceof Uint8Array;
  if (!isWhole || sum !== rowSum(version, key, value)) throw damaged(path, `the row of key ${JSON.stringify(key)} has a wrong checksum`);
  return { key, value, version };
}

/** Reads items until a page is full. `isAll` is true if there were no more rows. */
function readPage(
  found: Iterable<SqlRow>,
  { limit, path }: { readonly limit: number; readonly path: string },
): { readonly items: readonly StoreItem[]; readonly isAll: boolean } {
  const items: StoreItem[] = [];
  let totalBytes = 0;
  for (const row of found) {
    const item = readRow(row, path);
    totalBytes += item.value.length;
    if (items.length === limit || (items.length > 0 && totalBytes > MAX_PAGE_BYTES)) return { items, isAll: false };
    items.push(item);
  }
  return { items, isAll: true };
}
