import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, renameSync, rmdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, test } from "vitest";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { type AuditFilter, EVERY_AUDIT, matchesAudit } from "../../../src/policy/audit/filter.ts";
import { until } from "../../fakes/until.ts";
import { DAY_MS, detailsOf, event, openLog, recordAll, tamper } from "../audit-fixture.ts";
import { holdThreads } from "../held-threads.ts";
import { directoryBytes, temporaryDirectory } from "../journal-fixture.ts";

holdThreads("audit");

const numbers = (count: number) => Array.from({ length: count }, (_, i) => `${i + 1}`);

test("what was recorded is read newest first, numbered from 1, each naming the hash before it", async () => {
  using directory = temporaryDirectory();
  await using log = await openLog(directory.path);
  await recordAll(log, ["one", "two", "three"]);
  const { records, nextBefore } = await log.read({ limit: 10, filter: EVERY_AUDIT });
  expect(records.map(({ number, detail }) => `${number} ${detail}`)).toEqual(["3 three", "2 two", "1 one"]);
  expect(records[0]?.previousHash).toEqual(records[1]?.hash);
  expect(records[2]?.previousHash).toEqual(new Uint8Array(32));
  expect(nextBefore).toBeUndefined();
  expect(await log.verify()).toMatchObject({ problem: undefined, checkedCount: 3, anchor: { number: 0 }, head: { number: 3 } });
});

test("a read sees what was recorded just before it, durable or not", async () => {
  await using log = await openLog(undefined);
  log.record(event({ detail: "just now" }));
  expect(await detailsOf(log)).toEqual(["just now"]);
});

test("pages go on below the last number, whatever is recorded meanwhile; a filter looks through all of them", async () => {
  await using log = await openLog(undefined);
  for (const detail of numbers(4500)) log.record(event({ detail, namespace: Number(detail) % 1500 === 1 ? "svc.rare" : "svc.common" }));
  const first = await log.read({ limit: 2, filter: EVERY_AUDIT });
  expect(first.records.map(({ detail }) => detail)).toEqual(["4500", "4499"]);
  await recordAll(log, ["later"]);
  const second = await log.read({ before: first.nextBefore, limit: 2, filter: EVERY_AUDIT });
  expect(second.records.map(({ detail }) => detail)).toEqual(["4498", "4497"]);
  const rare = await log.read({ limit: 10, filter: { ...EVERY_AUDIT, namespace: "svc.rare" } });
  expect(rare.records.map(({ detail }) => detail)).toEqual(["3001", "1501", "1"]);
  const newer = await log.readAbove(4499, EVERY_AUDIT);
  expect([newer.records.map(({ number }) => number), newer.through, newer.isDone]).toEqual([[4500, 4501], 4501, true]);
  const rareAbove = await log.readAbove(0, { ...EVERY_AUDIT, namespace: "svc.rare" });
  expect([rareAbove.records.map(({ number }) => number), rareAbove.through]).toEqual([[1, 1501, 3001], 4501]);
  const oldest = await log.readAbove(0, EVERY_AUDIT);
  expect([oldest.records.length, oldest.through, oldest.isDone]).toEqual([1000, 1000, false]);
  expect(await log.verify()).toMatchObject({ problem: undefined, checkedCount: 4501 });
});

const ODD = event({ atWallMs: 5, kind: "policy", outcome: "allowed", detail: "ÄPFEL Äpfel", tokenId: "jti:Ab-7", ticket: "OPS-7" });
const SUBJECTS = event({ atWallMs: 1_800_000_000_000, subjects: "lease:a1/7\nsvc.market/web/web-1", requestId: "r-1" });

test.each<{ filter: Partial<AuditFilter>; found: readonly number[] }>([
  { filter: {}, found: [1, 2, 3] },
  { filter: { subjects: ["svc.market/web/web-1"] }, found: [2] },
  { filter: { subjects: ["svc.market/web/web-1", "lease:a1/7"] }, found: [2] },
  { filter: { subjects: ["svc.market/web/web-1", "lease:a1/8"] }, found: [] },
  { filter: { subjects: ["svc.market/web/web"] }, found: [] },
  { filter: { kinds: ["policy"] }, found: [1] },
  { filter: { kinds: ["policy", "access"] }, found: [1, 2, 3] },
  { filter: { outcomes: ["denied"] }, found: [2, 3] },
  { filter: { outcomes: ["allowed", "noted"] }, found: [1] },
  { filter: { ticket: "OPS-7" }, found: [1] },
  { filter: { ticket: "OPS" }, found: [] },
  { filter: { tenant: "a", action: "query", kinds: ["policy"] }, found: [1] },
  { filter: { text: "äpfel" }, found: [] },
  { filter: { text: "ÄPfEL" }, found: [1] },
  { filter: { text: "AB-7" }, found: [1] },
  { filter: { text: "WEB/web" }, found: [2] },
  { filter: { text: "team-aa" }, found: [] },
  { filter: { text: "viewer_DENIED" }, found: [1, 2, 3] },
  { filter: { toWallMs: 5 }, found: [] },
  { filter: { toWallMs: 6 }, found: [1] },
  { filter: { fromWallMs: 1_700_000_000_000 }, found: [2, 3] },
  { filter: { fromWallMs: 1_800_000_000_001 }, found: [] },
  { filter: { fromWallMs: -7, toWallMs: -6 }, found: [] },
])("SQLite finds by $filter the records that match", async ({ filter, found }) => {
  await using log = await openLog(undefined, { retentionMs: 1e14 });
  const events = [ODD, SUBJECTS, event({ atWallMs: 1_700_000_000_000 })];
  for (const each of events) log.record(each);
  const whole = { ...EVERY_AUDIT, ...filter };
  expect(events.flatMap((each, i) => (matchesAudit(each, whole) ? [i + 1] : []))).toEqual(found);
  const { records } = await log.read({ limit: 10, filter: whole });
  expect(records.map(({ number }) => number).toReversed()).toEqual(found);
});

test("a restart goes on with the chain where it ended", async () => {
  using directory = temporaryDirectory();
  {
    await using log = await openLog(directory.path);
    await recordAll(log, ["one", "two"]);
  }
  await using log = await openLog(directory.path);
  await recordAll(log, ["three"]);
  expect(await detailsOf(log)).toEqual(["three", "two", "one"]);
  expect(await log.verify()).toMatchObject({ problem: undefined, checkedCount: 3 });
});

test("closing writes what was recorded; events after it are lost and counted", async () => {
  using directory = temporaryDirectory();
  const metrics = new Metrics();
  const log = await openLog(directory.path, { metrics });
  log.record(event({ detail: "last" }));
  await log.close();
  await log.close();
  log.record(event({ detail: "too late" }));
  expect(metrics.counter("waymark_audit_lost_total", {}).value).toBe(1);
  await expect(log.read({ limit: 1, filter: EVERY_AUDIT })).rejects.toMatchObject({ reason: "store_unavailable" });
  await using again = await openLog(directory.path);
  expect(await detailsOf(again)).toEqual(["last"]);
});

test("killed at any moment, the log has what was said to be durable, and its chain is whole", async () => {
  using directory = temporaryDirectory();
  const child = spawn(process.execPath, [join(import.meta.dirname, "..", "audit-child.ts"), directory.path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let promised = 0;
  createInterface(child.stdout).on("line", (line) => {
    promised = Number(line);
    if (promised > 100) child.kill("SIGKILL");
  });
  await once(child, "close");
  expect(promised).toBeGreaterThan(100);
  await using log = await openLog(directory.path);
  const details = await detailsOf(log);
  expect(details.length).toBeGreaterThanOrEqual(promised);
  expect(details.toReversed()).toEqual(numbers(details.length));
  expect((await log.verify()).problem).toBeUndefined();
});

/** What a killed process leaves after it recorded something. */
async function killed(directory: string): Promise<void> {
  const child = spawn(process.execPath, [join(import.meta.dirname, "..", "audit-child.ts"), directory], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  createInterface(child.stdout).on("line", () => child.kill("SIGKILL"));
  await once(child, "close");
}

test.each([
  { what: "is gone", lose: (path: string) => rmSync(path) },
  { what: "was emptied", lose: (path: string) => truncateSync(path) },
  { what: "was cut after its header", lose: (path: string) => truncateSync(path, 32) },
])("after a crash, audit.db whose audit.db-wal $what says that it lost what was recorded last, for ever", async ({ lose }) => {
  using directory = temporaryDirectory();
  await (await openLog(directory.path)).close();
  await killed(directory.path);
  const lost = Number.parseInt(readFileSync(join(directory.path, "audit.mark"), "latin1"), 10);
  lose(join(directory.path, "audit.db-wal"));
  const errors: string[] = [];
  {
    await using log = await openLog(directory.path, { log: { info: () => {}, error: (_fields, message) => errors.push(message) } });
    expect(errors).toEqual(["audit log has lost its last records: audit.db-wal is missing or truncated"]);
    expect((await log.verify()).problem).toMatchObject({ kind: "truncated_head", number: 1, message: `records 1 to ${lost} are missing` });
    expect((await log.read({ limit: 9, filter: EVERY_AUDIT })).records).toMatchObject([
      {
        number: lost + 1,
        outcome: "noted",
        reason: "audit_log_lost",
        detail: expect.stringContaining("after record 0 are lost") as string,
      },
    ]);
    await recordAll(log, ["later"]);
  }
  await using log = await openLog(directory.path);
  await recordAll(log, ["later still"]);
  expect((await log.verify()).problem).toMatchObject({ number: 1 });
  expect((await log.read({ limit: 9, filter: EVERY_AUDIT })).records.map(({ number }) => number)).toEqual(
    [3, 2, 1].map((later) => lost + later),
  );
});

test("a break that was found is there at the next start too, whenever this one is killed", async () => {
  using directory = temporaryDirectory();
  {
    await using log = await openLog(directory.path);
    await recordAll(log, ["one"]);
  }
  await killed(directory.path);
  rmSync(join(directory.path, "audit.db-wal"));
  await killed(directory.path);
  await using log = await openLog(directory.path);
  expect((await log.verify()).problem).toMatchObject({ kind: "missing", number: 2 });
});

test("after a crash with its log, after a clean stop, and after a start that wrote nothing, nothing is missed", async () => {
  using directory = temporaryDirectory();
  await killed(directory.path);
  for (const details of [[], ["one"], []]) {
    await using log = await openLog(directory.path);
    await recordAll(log, details);
    expect((await log.verify()).problem).toBeUndefined();
  }
  expect(existsSync(join(directory.path, "audit.db-wal"))).toBe(false);
});

const SWAP = `
UPDATE records SET number = -2 WHERE number = 2;
UPDATE records SET number = 2 WHERE number = 3;
UPDATE records SET number = 3 WHERE number = -2;`;

test.each([
  {
    what: "a changed text",
    sql: "UPDATE records SET canonical = CAST(replace(canonical, 'two', 'TWO') AS BLOB) WHERE number = 2",
    found: ["altered", 2],
  },
  { what: "a changed hash", sql: "UPDATE records SET hash = randomblob(32) WHERE number = 3", found: ["altered", 3] },
  { what: "no record at all", sql: "UPDATE records SET canonical = x'00' WHERE number = 4", found: ["altered", 4] },
  { what: "a removed row", sql: "DELETE FROM records WHERE number = 3", found: ["missing", 3] },
  { what: "two rows swapped", sql: SWAP, found: ["reordered", 2] },
  { what: "the first rows removed", sql: "DELETE FROM records WHERE number <= 2", found: ["truncated_head", 1] },
  { what: "the last rows removed", sql: "DELETE FROM records WHERE number >= 4", found: ["truncated_tail", 4] },
  { what: "every row removed", sql: "DELETE FROM records", found: ["truncated_tail", 1] },
  {
    what: "a row added at the end",
    sql: "INSERT INTO records SELECT 6, canonical, hash FROM records WHERE number = 5",
    found: ["altered", 6],
  },
  { what: "the end moved back", sql: "UPDATE meta SET head = 3", found: ["altered", 5] },
  { what: "the start moved on", sql: "UPDATE meta SET anchor = 2", found: ["altered", 3] },
])("verify finds $what", async ({ sql, found }) => {
  using directory = temporaryDirectory();
  {
    await using log = await openLog(directory.path);
    await recordAll(log, ["one", "two", "three", "four", "five"]);
  }
  tamper(directory.path, sql);
  await using log = await openLog(directory.path);
  const { problem } = await log.verify();
  expect([problem?.kind, problem?.number]).toEqual(found);
});

test("rows cut off the end stay missed after the chain went on", async () => {
  using directory = temporaryDirectory();
  {
    await using log = await openLog(directory.path);
    await recordAll(log, ["one", "two", "three"]);
  }
  tamper(directory.path, "DELETE FROM records WHERE number = 3");
  const errors: string[] = [];
  await using log = await openLog(directory.path, { log: { info: () => {}, error: (_fields, message) => errors.push(message) } });
  expect(errors).toEqual(["audit log is missing its last written records"]);
  await recordAll(log, ["four"]);
  expect((await log.verify()).problem).toMatchObject({ kind: "missing", number: 3 });
});

test("a head kept elsewhere shows what the file alone cannot: a chain cut off with its own memory, or made anew", async () => {
  using directory = temporaryDirectory();
  let kept: { number: number; hash: Uint8Array };
  {
    await using log = await openLog(directory.path);
    await recordAll(log, ["one", "two", "three"]);
    kept = (await log.verify()).head;
    expect((await log.verify([kept])).problem).toBeUndefined();
  }
  tamper(
    directory.path,
    "DELETE FROM records WHERE number = 3; UPDATE meta SET head = 2, head_hash = (SELECT hash FROM records WHERE number = 2)",
  );
  await using log = await openLog(directory.path);
  expect((await log.verify()).problem).toBeUndefined();
  expect((await log.verify([kept])).problem).toMatchObject({ kind: "truncated_tail", number: 3 });
  await recordAll(log, ["another three", "four"]);
  expect((await log.verify()).problem).toBeUndefined();
  expect((await log.verify([kept])).problem).toMatchObject({ kind: "altered", number: 3 });
});

test("records older than the retention go; the chain is whole from where it now starts", async () => {
  using directory = temporaryDirectory();
  await using log = await openLog(directory.path, { retentionMs: DAY_MS });
  for (const detail of numbers(2500)) log.record(event({ detail, atWallMs: Date.now() - 2 * DAY_MS }));
  await log.durable();
  await recordAll(log, ["young"]);
  expect(await detailsOf(log)).toEqual(["young"]);
  expect(await log.verify()).toMatchObject({ problem: undefined, checkedCount: 1, anchor: { number: 2500 }, head: { number: 2501 } });
  const [young] = (await log.read({ limit: 1, filter: EVERY_AUDIT })).records;
  expect(young?.previousHash).toEqual((await log.verify()).anchor.hash);
});

test("a log above its size loses its oldest records, and never all of them", async () => {
  using directory = temporaryDirectory();
  const metrics = new Metrics();
  await using log = await openLog(directory.path, { maxBytes: 1 << 20, metrics });
  for (let round = 0; round < 8; round++) {
    for (const detail of numbers(800)) log.record(event({ detail: detail.padEnd(484, "x") }));
    await log.durable();
  }
  expect(metrics.gauge("waymark_audit_bytes", {}).value).toBeLessThanOrEqual(1 << 20);
  const { problem, anchor, head, checkedCount } = await log.verify();
  expect(problem).toBeUndefined();
  expect(head.number).toBe(6400);
  expect(checkedCount).toBe(head.number - anchor.number);
  expect(checkedCount).toBeGreaterThan(500);
});

test("more events than may wait are lost, counted, and told in the log once there is room", async () => {
  await using log = await openLog(undefined);
  const metrics = new Metrics();
  await using full = await openLog(undefined, { metrics });
  for (let i = 0; i < 10_500; i++) full.record(event({ detail: `${i}` }));
  await full.durable();
  full.record(event({ detail: "after" }));
  const details = await detailsOf(full);
  expect(details.slice(0, 3)).toEqual(["after", "500 events lost", "9999"]);
  expect(details).toHaveLength(10_002);
  expect(metrics.counter("waymark_audit_lost_total", {}).value).toBe(500);
  expect(metrics.counter("waymark_audit_records_total", { kind: "access", outcome: "denied" }).value).toBe(10_001);
  expect((await full.verify()).problem).toBeUndefined();
  expect(await detailsOf(log)).toEqual([]);
});

test("each record is a line of JSON in the file, which is opened again when it was moved", async () => {
  using directory = temporaryDirectory();
  const file = join(directory.path, "audit.jsonl");
  {
    await using log = await openLog(directory.path, { file });
    await recordAll(log, ["one"]);
    await until("the first line", () => existsSync(file) && readFileSync(file, "utf8").endsWith("\n"));
    renameSync(file, `${file}.1`);
    log.reopenFile();
    await recordAll(log, ["two", 'thr"ee\n']);
  }
  await until("the last line", () => existsSync(file) && readFileSync(file, "utf8").split("\n").length === 3);
  const [one] = readFileSync(`${file}.1`, "utf8").trim().split("\n");
  expect(JSON.parse(one ?? "")).toMatchObject({
    number: 1,
    detail: "one",
    kind: "access",
    outcome: "denied",
    previous_hash: "0".repeat(64),
  });
  const lines = readFileSync(file, "utf8").trim().split("\n");
  expect(lines.map((line) => (JSON.parse(line) as { detail: string }).detail)).toEqual(["two", 'thr"ee\\u000a']);
});

test("a file that takes no lines is said once, every line of it counted, and keeps nobody from recording", async () => {
  using directory = temporaryDirectory();
  const file = join(directory.path, "is-a-directory");
  mkdirSync(file);
  const metrics = new Metrics();
  const said: string[] = [];
  const say = (_fields: object, message: string) => void said.push(message);
  await using log = await openLog(directory.path, { file, metrics, log: { info: say, error: say } });
  await until("it is said before anything was recorded", () => said.length > 1);
  await recordAll(log, ["one", "two"]);
  await until("the lost lines are counted", () => metrics.counter("waymark_audit_file_lost_total", {}).value === 2);
  expect(log.fault).toMatch(/^audit.file cannot be written, so lines are lost: EISDIR/);
  expect((await log.verify()).problem).toBeUndefined();
  rmdirSync(file);
  await recordAll(log, ["three"]);
  await until("it is written", () => log.fault === "");
  expect(said).toEqual(["audit log opened", "audit file write failed, lines are lost (audit.file)", "audit file is accepting lines again"]);
  expect(metrics.counter("waymark_audit_file_lost_total", {}).value).toBe(2);
});

test("a file of a newer program, or one that is no log, is refused and left as it is", async () => {
  using directory = temporaryDirectory();
  await (await openLog(directory.path)).close();
  const path = join(directory.path, "audit.db");
  const whole = readFileSync(path);
  for (const [problem, at] of [
    ["other_format", 60],
    ["corrupt", 68],
  ] as const) {
    const changed = Buffer.from(whole);
    changed.writeUInt32BE(77, at);
    writeFileSync(path, changed);
    const before = directoryBytes(directory.path);
    await expect(openLog(directory.path)).rejects.toMatchObject({ reason: "store_unavailable", details: { metadata: { problem } } });
    expect(directoryBytes(directory.path)["audit.db"]).toBe(before["audit.db"]);
  }
});

test("two processes cannot write to one log", async () => {
  using directory = temporaryDirectory();
  await using log = await openLog(directory.path);
  await expect(openLog(directory.path)).rejects.toThrow(`in use by process ${process.pid}`);
  await recordAll(log, ["one"]);
});

/** From now on the closed log's file refuses records: while `condition`, SQL over the new row, holds. */
function refuseWhile(directory: string, condition: string): void {
  tamper(directory, `CREATE TRIGGER refuse BEFORE INSERT ON records WHEN ${condition} BEGIN SELECT RAISE(ABORT, 'disk full'); END`);
}

test("a disk that refuses is said to who waits; the records wait, in order, and are written when it takes them again", async () => {
  using directory = temporaryDirectory();
  await (await openLog(directory.path)).close();
  // Longer than it may take a busy machine to open the log and to be refused once.
  refuseWhile(directory.path, `unixepoch('subsec') * 1000 < ${Date.now() + 8000}`);
  const metrics = new Metrics();
  await using log = await openLog(directory.path, { metrics });
  for (const detail of ["one", "two"]) log.record(event({ detail }));
  await expect(log.durable()).rejects.toMatchObject({ reason: "store_unavailable", details: { retryMs: 1000 } });
  log.record(event({ detail: "three" }));
  await until("the disk takes records again", () => {
    metrics.collect();
    return metrics.gauge("waymark_audit_pending_records", {}).value === 0;
  });
  expect(await detailsOf(log)).toEqual(["three", "two", "one"]);
  expect(metrics.counter("waymark_audit_failures_total", {}).value).toBeGreaterThanOrEqual(1);
  expect((await log.verify()).problem).toBeUndefined();
});

test("a disk that never takes records keeps neither reading nor closing from ending", async () => {
  using directory = temporaryDirectory();
  await (await openLog(directory.path)).close();
  refuseWhile(directory.path, "new.number > 1");
  const lost: unknown[] = [];
  const log = await openLog(directory.path, { log: { info: () => {}, error: (fields, message) => lost.push({ ...fields, message }) } });
  await recordAll(log, ["one"]);
  log.record(event({ detail: "never" }));
  expect(await detailsOf(log)).toEqual(["one"]);
  await log.close();
  expect(lost.at(-1)).toEqual({ lostCount: 1, message: "audit records lost at shutdown" });
});
