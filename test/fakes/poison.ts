/** A data directory that somebody changed and sealed again: whatever its files say, their checksums are right. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync, type SQLInputValue } from "node:sqlite";
import { crc32 } from "node:zlib";
import { sealCleanStop } from "../../src/store/clean-stop.io.ts";
import { resealed, type SnapshotBlock } from "./resealed.ts";

/** Changes a stopped node's journal by SQL, and seals it as its node would have. */
export function poisonJournal(directory: string, sql: string, ...values: SQLInputValue[]): void {
  changeJournal(directory, (db) => db.prepare(sql).run(...values));
}

function changeJournal(directory: string, change: (db: DatabaseSync) => void): void {
  const path = join(directory, "journal.db");
  const db = new DatabaseSync(path);
  change(db);
  // Into the file, so that there is no log.
  db.exec("PRAGMA journal_mode = DELETE; PRAGMA journal_mode = WAL");
  db.close();
  for (const side of ["-wal", "-shm"]) rmSync(`${path}${side}`, { force: true });
  sealCleanStop(path);
}

/** Where a row has what, little endian; see `store/journal/format.ts`. */
const LEASE_AT = 12;
const KEY_BYTES_AT = 16;
const RECORD_BYTES_AT = 20;
const KEY_AT = 24;

/** Puts another record, another lease number, or both, into the row of the newest change. */
export function poisonRow(directory: string, { record, lease }: { readonly record?: Uint8Array; readonly lease?: number }): void {
  changeJournal(directory, (db) => {
    const found = db.prepare("SELECT seq, row FROM records ORDER BY seq DESC LIMIT 1").get();
    const { seq = 0, row } = found ?? {};
    if (!(row instanceof Uint8Array)) throw new Error("the journal has no rows");
    const keyEnd = KEY_AT + new DataView(row.buffer, row.byteOffset).getUint32(KEY_BYTES_AT, true);
    const next = Uint8Array.from([...row.subarray(0, keyEnd), ...(record ?? row.subarray(keyEnd))]);
    const view = new DataView(next.buffer);
    view.setUint32(RECORD_BYTES_AT, next.length - keyEnd, true);
    if (lease !== undefined) view.setUint32(LEASE_AT, lease, true);
    view.setUint32(0, crc32(next.subarray(4)), true);
    db.prepare("UPDATE records SET row = ? WHERE seq = ?").run(next, seq);
  });
}

export function poisonSnapshot(directory: string, change: (blocks: readonly SnapshotBlock[]) => readonly SnapshotBlock[]): void {
  const path = join(directory, "replica.snapshot");
  writeFileSync(path, resealed(readFileSync(path), change));
}
