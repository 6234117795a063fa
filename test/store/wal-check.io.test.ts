import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import fc from "fast-check";
import { expect, test } from "vitest";
import { walDamage } from "../../src/store/wal-check.ts";

const TRANSACTIONS = 6;
const FRAME_BYTES = 24 + 512;

/** A log that SQLite wrote: one transaction an insert, small pages. `ends[i]` is where transaction i ends. */
function writtenLog(): { readonly log: Uint8Array; readonly ends: readonly number[] } {
  const directory = mkdtempSync(join(tmpdir(), "waymark-wal-"));
  const path = join(directory, "t.db");
  const db = new DatabaseSync(path);
  try {
    db.exec(
      "PRAGMA page_size = 512; PRAGMA journal_mode = WAL; PRAGMA wal_autocheckpoint = 0; CREATE TABLE t (x BLOB); PRAGMA wal_checkpoint(TRUNCATE)",
    );
    const ends: number[] = [];
    for (let i = 0; i < TRANSACTIONS; i++) {
      db.exec(`INSERT INTO t VALUES (randomblob(${200 + i * 300}))`);
      ends.push(readFileSync(`${path}-wal`).length);
    }
    return { log: Uint8Array.from(readFileSync(`${path}-wal`)), ends };
  } finally {
    db.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

const { log, ends } = writtenLog();

function flipped(at: number, bit: number): Uint8Array {
  const copy = Uint8Array.from(log);
  copy[at] = (copy[at] ?? 0) ^ (1 << bit);
  return copy;
}

test("a log as SQLite left it, and one cut off at any byte, are not damaged", () => {
  expect(walDamage(log)).toBeUndefined();
  fc.assert(
    fc.property(fc.nat(log.length), (sizeBytes) => {
      expect(walDamage(log.subarray(0, sizeBytes))).toBeUndefined();
    }),
  );
});

test("any flipped bit before the last two batches is damage", () => {
  const acknowledged = (ends.at(-3) ?? 0) - 1;
  fc.assert(
    fc.property(fc.nat(acknowledged), fc.nat(7), (at, bit) => {
      expect(walDamage(flipped(at, bit))).toContain("damaged");
    }),
  );
});

test("a flipped bit in the last batch looks like a crash in it", () => {
  const from = ends.at(-2) ?? 0;
  fc.assert(
    fc.property(fc.integer({ min: from, max: log.length - 1 }), fc.nat(7), (at, bit) => {
      expect(walDamage(flipped(at, bit))).toBeUndefined();
    }),
  );
});

test("a refused batch that a shorter commit replaced leaves a tail that is no damage", () => {
  // The tail of the longest transaction behind a first frame that another commit took: its own chain holds one commit only.
  const from = ends.at(-2) ?? 0;
  const copy = Uint8Array.from(log);
  copy.set(copy.subarray(32, 32 + FRAME_BYTES), from);
  expect(walDamage(copy)).toBeUndefined();
});

test.each([
  { name: "an empty log", bytes: new Uint8Array(0) },
  { name: "a cut-off header", bytes: log.subarray(0, 20) },
  { name: "a bad header with nothing behind it", bytes: flipped(9, 1).subarray(0, 40) },
])("$name is not damaged", ({ bytes }) => {
  expect(walDamage(bytes)).toBeUndefined();
});
