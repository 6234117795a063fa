import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { WaymarkError } from "../../src/lib/errors.ts";
import { runs } from "../fakes/effort.ts";
import { poisonJournal } from "../fakes/poison.ts";
import { holdThreads } from "./held-threads.ts";
import { batch, directoryBytes, keyOf, lease, openAndReplay, put, temporaryDirectory } from "./journal-fixture.ts";

holdThreads("journal");

const ROWS = 400;

/** A directory that a clean stop left; made once, copied for each test. */
const STOPPED = temporaryDirectory();
/** A directory that a crash left: a log with several batches, not yet in the file. */
const CRASHED = temporaryDirectory();

beforeAll(async () => {
  const { journal } = await openAndReplay(STOPPED.path);
  await journal.write(batch({ puts: Array.from({ length: ROWS }, (_, i) => put(`svc.market/web-${i}`, i + 1)) }));
  await journal.close();
  crash(CRASHED.path);
});

afterAll(() => {
  STOPPED[Symbol.dispose]();
  CRASHED[Symbol.dispose]();
});

/** Lets a process write eight batches of fifty and kill itself. */
function crash(directory: string) {
  const child = spawnSync(process.execPath, [join(import.meta.dirname, "journal-child.ts"), directory, "8", "50", "0"], {
    encoding: "utf8",
  });
  return child.stdout.match(/acked/g);
}

function stopped(directory: string): void {
  cpSync(STOPPED.path, directory, { recursive: true });
}

/** As a crash right after a checkpoint leaves it: no checksum, and a log with nothing in it. */
function unseal(directory: string): void {
  rmSync(join(directory, "journal.sum"));
  writeFileSync(join(directory, "journal.db-wal"), "");
}

function crashed(directory: string): void {
  cpSync(CRASHED.path, directory, { recursive: true });
}

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] ?? 0) ^ 0x40;
  writeFileSync(path, bytes);
}

/** Flips a bit in every place where `text` stands: SQLite leaves stale copies in unused parts of pages. */
function flipText(path: string, text: string): void {
  const bytes = readFileSync(path);
  for (let at = bytes.indexOf(text); at >= 0; at = bytes.indexOf(text)) bytes[at] = (bytes[at] ?? 0) ^ 0x40;
  writeFileSync(path, bytes);
}

/** What an attempt to open says, and which files it changed. */
async function attempt(directory: string) {
  const before = directoryBytes(directory);
  const said = await openAndReplay(directory).then(
    async ({ journal }) => {
      await journal.close();
      return { message: "opened", problem: undefined };
    },
    (error: unknown) =>
      error instanceof WaymarkError
        ? { message: error.message, problem: error.details.metadata?.["problem"] }
        : { message: String(error), problem: undefined },
  );
  const after = directoryBytes(directory);
  return { ...said, changed: [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((name) => before[name] !== after[name]) };
}

function refused(message: RegExp, problem = "corrupt") {
  return { message: expect.stringMatching(message) as unknown, problem, changed: [] };
}

/** The error for a log that is cut short. */
const CUT_SHORT = /has lost its log: .*journal\.db-wal is truncated: .*put the log back, or start with --new-generation/;

function watermarkIn(directory: string): string {
  return readFileSync(join(directory, "journal.mark"), "latin1");
}

/** As `CommitWatermark` writes it. */
function watermarkOf(number: number): string {
  return `${`${number} ${crc32(String(number))}`.padEnd(39)}\n`;
}

const db = (directory: string) => join(directory, "journal.db");

test.each([
  { where: "the magic", at: () => 3 },
  { where: "the header's page count", at: () => 31 },
  { where: "the root page", at: () => 4096 + 2 },
  { where: "the middle", at: (sizeBytes: number) => Math.floor(sizeBytes / 2) },
  { where: "the last byte", at: (sizeBytes: number) => sizeBytes - 1 },
])("a flipped bit in $where of a stopped node's file is refused, the files untouched", async ({ at }) => {
  using directory = temporaryDirectory();
  stopped(directory.path);
  flip(db(directory.path), at(statSync(db(directory.path)).size));
  expect(await attempt(directory.path)).toEqual(refused(/journal\.db is damaged: .*left unchanged.*restore a backup/));
});

test("a row that changed in a file without a checksum is refused by its own", async () => {
  using directory = temporaryDirectory();
  stopped(directory.path);
  unseal(directory.path);
  flipText(db(directory.path), "svc.market/web-17");
  expect(await attempt(directory.path)).toEqual(refused(/row after seq \d+ has a wrong checksum/));
});

test("a page that is no page is refused in a file without a checksum", async () => {
  using directory = temporaryDirectory();
  stopped(directory.path);
  unseal(directory.path);
  const bytes = readFileSync(db(directory.path));
  bytes.fill(0xff, bytes.length - 4096, bytes.length - 4000);
  writeFileSync(db(directory.path), bytes);
  expect(await attempt(directory.path)).toEqual(refused(/journal\.db is damaged/));
});

test.each([0, 50, 4096, 10_000])("a file cut to %i bytes is refused", async (sizeBytes) => {
  using directory = temporaryDirectory();
  stopped(directory.path);
  unseal(directory.path);
  truncateSync(db(directory.path), sizeBytes);
  expect(await attempt(directory.path)).toEqual(refused(/journal\.db is damaged/));
});

test.each([
  { version: 3, says: /format 3, but this program reads format 2: start a newer version of the program/ },
  { version: 1, says: /format 1, but this program reads format 2: .* data from before the first release cannot be upgraded/ },
])("a directory of format $version is refused with both numbers", async ({ version, says }) => {
  using directory = temporaryDirectory();
  stopped(directory.path);
  const bytes = readFileSync(db(directory.path));
  bytes.writeUInt32BE(version, 60);
  writeFileSync(db(directory.path), bytes);
  expect(await attempt(directory.path)).toEqual(refused(says, "other_format"));
});

test("another program's database is refused", async () => {
  using directory = temporaryDirectory();
  const other = new DatabaseSync(db(directory.path));
  other.exec("CREATE TABLE t (x); INSERT INTO t VALUES (1)");
  other.close();
  expect(await attempt(directory.path)).toEqual(refused(/application id is 0/));
});

test("a log without its file is refused", async () => {
  using directory = temporaryDirectory();
  crashed(directory.path);
  renameSync(db(directory.path), join(directory.path, "elsewhere"));
  expect(await attempt(directory.path)).toEqual(refused(/journal\.db-wal exists without/));
});

test("after a crash a directory whose log is gone is refused, and taken as it is with a new generation", async () => {
  using directory = temporaryDirectory();
  crashed(directory.path);
  rmSync(join(directory.path, "journal.db-wal"));
  expect(await attempt(directory.path)).toEqual(
    refused(/journal\.db has lost its log: .*put the log back, or start with --new-generation/),
  );
  const { journal } = await openAndReplay(directory.path, { forceNewGeneration: true });
  await journal.close();
  expect(await attempt(directory.path)).toMatchObject({ message: "opened" });
});

test("a checksum whose file is gone is refused: an empty directory has none", async () => {
  using directory = temporaryDirectory();
  stopped(directory.path);
  rmSync(db(directory.path));
  expect(await attempt(directory.path)).toEqual(refused(/journal\.db is missing, but its seal exists/));
});

test("after a crash nothing is refused and every acknowledged row is there", async () => {
  using directory = temporaryDirectory();
  crashed(directory.path);
  const { journal, rows } = await openAndReplay(directory.path);
  expect(rows).toHaveLength(ROWS);
  await journal.close();
});

test.each([
  { where: "the log's header", at: () => 9 },
  { where: "the log's first frame", at: () => 32 + 24 + 500 },
  { where: "a frame's salt", at: () => 32 + 9 },
  { where: "a frame's checksum", at: () => 32 + 17 },
  { where: "the middle of the log", at: (sizeBytes: number) => Math.floor(sizeBytes / 2) },
])("a flipped bit in $where after a crash is refused, the files untouched", async ({ at }) => {
  using directory = temporaryDirectory();
  crashed(directory.path);
  const log = `${db(directory.path)}-wal`;
  flip(log, at(statSync(log).size));
  expect(await attempt(directory.path)).toEqual(refused(/its log.* is damaged/));
});

test("a row damaged in the file after a crash is refused, log and file untouched", async () => {
  using directory = temporaryDirectory();
  stopped(directory.path);
  expect(crash(directory.path)).toHaveLength(8);
  flipText(db(directory.path), "svc.market/web-17");
  expect(await attempt(directory.path)).toEqual(refused(/journal\.db is damaged/));
});

test("a log that a crash cut off in a batch that was not acknowledged keeps the batches before it", async () => {
  using directory = temporaryDirectory();
  crashed(directory.path);
  // The watermark is written after the batch is on disk, so a crash in the last batch leaves the watermark of the previous batch.
  writeFileSync(join(directory.path, "journal.mark"), watermarkOf(Number.parseInt(watermarkIn(directory.path), 10) - 1));
  const log = `${db(directory.path)}-wal`;
  truncateSync(log, statSync(log).size - 1000);
  const { journal, rows } = await openAndReplay(directory.path);
  expect(rows).toHaveLength(ROWS - 50);
  await journal.close();
});

test("a watermark that cannot be read keeps no complete journal from starting", async () => {
  using directory = temporaryDirectory();
  crashed(directory.path);
  rmSync(join(directory.path, "journal.mark"));
  mkdirSync(join(directory.path, "journal.mark"));
  const { journal, rows } = await openAndReplay(directory.path);
  expect(rows).toHaveLength(ROWS);
  await journal.close();
});

const FRAME_BYTES = 24 + 4096;

test.each([
  { what: "emptied", sizeOf: () => 0 },
  { what: "cut in its header", sizeOf: () => 20 },
  { what: "cut after its header", sizeOf: () => 32 },
  { what: "cut in half", sizeOf: (sizeBytes: number) => Math.floor(sizeBytes / 2) },
  { what: "cut in its last batch", sizeOf: (sizeBytes: number) => sizeBytes - 1000 },
])("after a crash, a log that was $what, with acknowledged batches, is refused, and the files stay unchanged", async ({ sizeOf }) => {
  using directory = temporaryDirectory();
  crashed(directory.path);
  const log = `${db(directory.path)}-wal`;
  truncateSync(log, sizeOf(statSync(log).size));
  expect(await attempt(directory.path)).toEqual(refused(CUT_SHORT));
});

test("a log cut at any frame boundary is refused, and accepted with a new generation", async () => {
  const frames = (statSync(`${db(CRASHED.path)}-wal`).size - 32) / FRAME_BYTES;
  await fc.assert(
    fc.asyncProperty(fc.nat(frames - 1), async (kept) => {
      using directory = temporaryDirectory();
      crashed(directory.path);
      truncateSync(`${db(directory.path)}-wal`, 32 + kept * FRAME_BYTES);
      expect(await attempt(directory.path)).toEqual(refused(CUT_SHORT));
      const first = await openAndReplay(directory.path, { forceNewGeneration: true });
      expect(first.rows.length % 50).toBe(0);
      await first.journal.write(batch({ puts: [put("svc.market/new", 1000)] }));
      await first.journal.close();
      expect(await attempt(directory.path)).toMatchObject({ message: "opened" });
    }),
    { numRuns: runs(10) },
  );
});

test("a log that was emptied right after a checkpoint started it is refused", async () => {
  using directory = temporaryDirectory();
  using copy = temporaryDirectory();
  await using journal = (await openAndReplay(directory.path)).journal;
  await journal.write(batch({ puts: [put("svc.market/large", 1, { record: new Uint8Array(1_200_000) })] }));
  const begun = 32 + FRAME_BYTES;
  await expect.poll(() => statSync(`${db(directory.path)}-wal`).size).toBe(begun);
  // The start, the batch, and the first commit of the new log, followed by its watermark.
  await expect.poll(() => Number.parseInt(watermarkIn(directory.path), 10)).toBe(3);
  for (const name of ["journal.db", "journal.mark"]) cpSync(join(directory.path, name), join(copy.path, name));
  writeFileSync(`${db(copy.path)}-wal`, "");
  expect(await attempt(copy.path)).toEqual(refused(CUT_SHORT));
});

test.each([
  { what: "is missing", lose: (path: string) => rmSync(path) },
  { what: "was never written", lose: (path: string) => writeFileSync(path, "") },
  { what: "is incomplete", lose: (path: string) => writeFileSync(path, watermarkOf(1e6).slice(0, 12)) },
])("a watermark that $what does not refuse the directory", async ({ lose }) => {
  using directory = temporaryDirectory();
  crashed(directory.path);
  lose(join(directory.path, "journal.mark"));
  expect(await attempt(directory.path)).toMatchObject({ message: "opened" });
});

const TOP = BigInt(Number.MAX_SAFE_INTEGER);

test.each([
  { what: "a floor below none", sql: "UPDATE meta SET floor = -5", says: /its floor is -5/ },
  { what: "a generation below none", sql: "UPDATE meta SET generation = -1", says: /its generation is -1/ },
  {
    what: "a floor above all numbers that were given out",
    sql: "UPDATE meta SET floor = last_seq + 1000",
    says: /its floor 1001 is above its last_seq 1/,
  },
  { what: "the last number there is", sql: `UPDATE meta SET last_seq = ${2n ** 52n}`, says: /its last_seq is 4503599627370496/ },
  { what: "boots of which one more is no number", sql: `UPDATE meta SET boots = ${TOP}`, says: /its boots is 9007199254740991/ },
  { what: "a number that is none here", sql: `UPDATE meta SET generation = ${2n ** 63n - 1n}`, says: /too large/ },
  { what: "nobody's name", sql: "DELETE FROM meta", says: /meta table has no row/ },
  { what: "a lease without an id", sql: "UPDATE leases SET lease_id = '' WHERE lease = 1", says: /lease 1 has no id/ },
  { what: "two leases of one id", sql: "UPDATE leases SET lease_id = 'x'", says: /two leases have the id x/ },
  { what: "a lease numbered below none", sql: "UPDATE leases SET lease = -lease", says: /a lease has an invalid number: -/ },
  {
    what: "a lease numbered beyond a row",
    sql: `UPDATE leases SET lease = ${2n ** 32n} WHERE lease = 2`,
    says: /an invalid number: 4294967296/,
  },
  { what: "a ttl of a thousand years", sql: "UPDATE leases SET ttl_ms = 31536000000000", says: /has a ttl of 31536000000000 ms/ },
  { what: "a ttl below none", sql: "UPDATE leases SET ttl_ms = -1", says: /has a ttl of -1 ms/ },
])("sealed with $what it is refused, and says what to do", async ({ sql, says }) => {
  using directory = temporaryDirectory();
  const { journal } = await openAndReplay(directory.path);
  await journal.write(batch({ leases: [lease("one"), lease("two")], puts: [put("svc.market/web", 1, { leaseId: "one" })] }));
  await journal.close();
  poisonJournal(directory.path, sql);
  const said = await attempt(directory.path);
  expect(said).toEqual(refused(/is damaged: .*left unchanged: restore a backup, or move the directory away/));
  expect(said.message).toMatch(says);
});

test("after the highest number that a lease may have, those go on that none has, and rows keep theirs", async () => {
  using directory = temporaryDirectory();
  const first = await openAndReplay(directory.path);
  await first.journal.write(batch({ leases: [lease("one"), lease("two")], puts: [put("a", 1, { leaseId: "one" })] }));
  await first.journal.close();
  poisonJournal(directory.path, "UPDATE leases SET lease = 4294967295 WHERE lease_id = 'two'");
  const second = await openAndReplay(directory.path);
  await second.journal.write(batch({ leases: [lease("three"), lease("four")], puts: [put("b", 2, { leaseId: "three" })] }));
  await second.journal.write(batch({ puts: [put("c", 3, { leaseId: "four" }), put("d", 4, { leaseId: "two" })] }));
  await second.journal.close();
  const { journal, rows } = await openAndReplay(directory.path);
  await journal.close();
  expect(rows.map((row) => `${keyOf(row)} ${row.leaseId}`)).toEqual(["a one", "b three", "c four", "d two"]);
});
