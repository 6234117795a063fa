/** Prepares the journal's SQLite file for the first write: either creates it completely, or checks and reads it without changing it. */
import { join } from "node:path";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import { MAX_SEQ } from "../../catalog/record/codec.ts";
import { DATA_FILES } from "../data-directory.ts";
import { createIfMissing, type DatabaseFormat, damaged, FileInspection, type InspectOptions, refusalOf } from "../database-file.io.ts";
import { type JournalMeta, MAX_LEASE, NO_LEASE, type NumberedLease, visitRows } from "./format.ts";

const REPLAY_ROWS = 1000;
/** The highest valid number in `meta`. This limit leaves room for more changes than a node ever makes. */
const HIGHEST = MAX_SEQ - 2 ** 40;
/** The longest TTL that the settings of any version allow. */
const MAX_TTL_MS = 24 * 3_600_000;

export const JOURNAL: DatabaseFormat = {
  name: "journal",
  // The characters "WayM", so that the database of another program is not opened as a journal.
  applicationId: 0x5761794d,
  isSealed: true,
  lastCommit: "SELECT commits AS number FROM meta WHERE one = 1",
  schema: `
CREATE TABLE meta (one INTEGER PRIMARY KEY CHECK (one = 1), node_id TEXT NOT NULL, generation INTEGER NOT NULL, boots INTEGER NOT NULL,
  last_seq INTEGER NOT NULL, floor INTEGER NOT NULL, commits INTEGER NOT NULL) STRICT;
CREATE TABLE leases (lease INTEGER PRIMARY KEY, lease_id TEXT NOT NULL, ttl_ms INTEGER NOT NULL, principal TEXT NOT NULL,
  idempotency_key TEXT NOT NULL, granted_wall_ms INTEGER NOT NULL) STRICT;
CREATE TABLE records (seq INTEGER PRIMARY KEY, row BLOB NOT NULL) STRICT;
CREATE TABLE starts (number INTEGER PRIMARY KEY, boot TEXT NOT NULL) STRICT;
`,
};

export function journalPath(directory: string): string {
  return join(directory, DATA_FILES.journal);
}

/** Creates the file if it is missing. Throws `FileRefusedError` if a write-ahead log exists without its file. */
export function createJournalFile(directory: string, meta: JournalMeta): void {
  createIfMissing(journalPath(directory), JOURNAL, (db) => {
    const insert = db.prepare("INSERT INTO meta VALUES (1, ?, ?, ?, ?, ?, 0)");
    insert.run(meta.nodeId, meta.generation, meta.boots, meta.lastSeq, meta.floor);
  });
}

/** Reads and checks the whole journal before the first write. Nothing on disk changes. */
export class JournalReader {
  readonly #path: string;
  readonly #file: FileInspection;
  readonly #next: StatementSync;
  #afterSeq = 0;
  readonly meta: JournalMeta;
  readonly leases: readonly NumberedLease[];
  /** Names of earlier process instances that other nodes may know, newest first. */
  readonly earlierBoots: readonly string[];

  constructor(directory: string, options: InspectOptions) {
    this.#path = journalPath(directory);
    this.#file = new FileInspection(this.#path, JOURNAL, options);
    this.meta = this.#file.read((db) => readMeta(db, this.#path));
    this.leases = this.#file.read((db) => readLeases(db, this.#path));
    this.earlierBoots = this.#file.read((db) => readStarts(db, this.#path));
    this.#next = this.#file.read((db) =>
      db.prepare(
        // Without an ORDER BY of its own, `group_concat` keeps the order of the subquery and does not sort all rows once more. `visitRows` checks it.
        "SELECT CAST(group_concat(row, '') AS BLOB) AS rows FROM (SELECT row FROM records WHERE seq > ? ORDER BY seq LIMIT ?)",
      ),
    );
  }

  /**
   * Returns the next rows in order of seq, in one new buffer. Undefined if there are no more rows. It also calls `onRow` for each row. Throws
   * `FileRefusedError` if a row is damaged.
   */
  next(onRow: (seq: number, rows: Uint8Array, at: number) => void): Uint8Array<ArrayBuffer> | undefined {
    try {
      // The query returns many rows in a single value. Reading one result row and one buffer per row took four times as long.
      const rows = this.#next.get(this.#afterSeq, REPLAY_ROWS)?.["rows"];
      if (!(rows instanceof Uint8Array)) return this.#end();
      const damage = visitRows(rows, { afterSeq: this.#afterSeq, crc32 }, (seq, at) => {
        this.#afterSeq = seq;
        onRow(seq, rows, at);
      });
      if (damage !== undefined) throw damaged(this.#path, `the row after seq ${damage.seq} ${damage.problem}`);
      return rows;
    } catch (error) {
      throw refusalOf(this.#path, error);
    }
  }

  #end(): undefined {
    if (this.#afterSeq > this.meta.lastSeq)
      throw damaged(this.#path, `it has seq ${this.#afterSeq}, which is above the last assigned seq ${this.meta.lastSeq}`);
    return undefined;
  }

  close(): void {
    this.#file.close();
  }
}

function readMeta(db: DatabaseSync, path: string): JournalMeta {
  const row = db.prepare("SELECT node_id, generation, boots, last_seq, floor FROM meta WHERE one = 1").get();
  if (row === undefined) throw damaged(path, "its meta table has no row");
  for (const column of ["generation", "boots", "last_seq", "floor"]) {
    const number = Number(row[column]);
    if (number < 0 || (number > HIGHEST && column !== "generation"))
      throw damaged(path, `its ${column} is ${number}, which is out of range`);
  }
  const [floor, lastSeq] = [Number(row["floor"]), Number(row["last_seq"])];
  if (floor > lastSeq) throw damaged(path, `its floor ${floor} is above its last_seq ${lastSeq}`);
  return {
    nodeId: String(row["node_id"]),
    generation: Number(row["generation"]),
    boots: Number(row["boots"]),
    lastSeq,
    floor,
  };
}

/**
 * Reads and checks the names of process instances. These names are sent to peers, and a peer would reject every message of a node with an invalid
 * name.
 */
function readStarts(db: DatabaseSync, path: string): readonly string[] {
  const boots = db
    .prepare("SELECT boot FROM starts ORDER BY number DESC")
    .all()
    .map((row) => String(row["boot"]));
  const odd = boots.find((boot) => !/^[0-9a-f]{16}$/.test(boot));
  if (odd !== undefined) throw damaged(path, `a process instance has an invalid name: ${odd.slice(0, 32)}`);
  return boots;
}

/** Returns the fault of a lease that cannot have been written by any version. Undefined if the lease is valid. */
function leaseFault({ lease, leaseId, ttlMs }: NumberedLease, ids: ReadonlySet<string>): string | undefined {
  if (lease <= NO_LEASE || lease > MAX_LEASE) return `a lease has an invalid number: ${lease}`;
  if (leaseId === "" || ids.has(leaseId)) return leaseId === "" ? `lease ${lease} has no id` : `two leases have the id ${leaseId}`;
  return ttlMs < 0 || ttlMs > MAX_TTL_MS ? `lease ${lease} has a ttl of ${ttlMs} ms, which is out of range` : undefined;
}

function readLeases(db: DatabaseSync, path: string): readonly NumberedLease[] {
  const leases: NumberedLease[] = [];
  const ids = new Set<string>();
  const all = db.prepare("SELECT lease, lease_id, ttl_ms, principal, idempotency_key, granted_wall_ms FROM leases ORDER BY lease");
  for (const row of all.iterate()) {
    const lease: NumberedLease = {
      lease: Number(row["lease"]),
      leaseId: String(row["lease_id"]),
      ttlMs: Number(row["ttl_ms"]),
      principal: String(row["principal"]),
      idempotencyKey: String(row["idempotency_key"]),
      grantedWallMs: Number(row["granted_wall_ms"]),
    };
    const fault = leaseFault(lease, ids);
    if (fault !== undefined) throw damaged(path, fault);
    ids.add(lease.leaseId);
    leases.push(lease);
  }
  return leases;
}
