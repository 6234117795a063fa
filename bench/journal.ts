/**
 * How fast does the journal make rows durable, and read them back? Prints one JSON line.
 * `node bench/journal.ts [ROWS] [DIRECTORY]`: the directory decides which disk is measured.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import type { BatchPut } from "../src/catalog/batch.ts";
import { openJournal } from "../src/store/journal/journal.io.ts";

const ROWS = Number(process.argv[2] ?? 100_000);
const BATCH_ROWS = 100;
const RECORD_BYTES = 150;
const LONE_ROWS = 500;
/** The node has one batch on its way while it gathers the next; two keep the writing thread busy all the time. */
const IN_FLIGHT = 2;

const directory = mkdtempSync(join(process.argv[3] ?? tmpdir(), "waymark-bench-"));
const record = Uint8Array.from({ length: RECORD_BYTES }, (_, i) => i);
const lease = { leaseId: "lease-0123456789abcdef", ttlMs: 30_000, principal: "", idempotencyKey: "", grantedWallMs: 0 };
let seq = 0;

function open() {
  const log = { info: () => {}, warn: console.error, error: console.error };
  return openJournal({ directory, nodeId: "bench", newNodeId: () => "", newGeneration: () => 1, forceNewGeneration: false, log });
}

function row(number: number): BatchPut {
  return { key: `svc.market\0web-${number % 1000}\x001\0instance-${number}\0local`, seq: ++seq, record, leaseId: lease.leaseId };
}

function batchOf(puts: readonly BatchPut[]) {
  return { forget: [], leases: seq <= BATCH_ROWS ? [lease] : [], puts, endedLeases: [], lastSeq: seq, floor: 0 };
}

/** Writes every row once, the newest row of its key in place of the one before if there was one. */
async function writeAll(journal: Awaited<ReturnType<typeof open>>) {
  const startMs = performance.now();
  const flight: Promise<void>[] = [];
  for (let from = 0; from < ROWS; from += BATCH_ROWS) {
    flight.push(journal.write(batchOf(Array.from({ length: Math.min(BATCH_ROWS, ROWS - from) }, (_, i) => row(from + i)))));
    if (flight.length >= IN_FLIGHT) await flight.shift();
  }
  await Promise.all(flight);
  const { commitP50Ms, commitP99Ms } = journal.stats();
  return { rowsPerSecond: Math.round(ROWS / ((performance.now() - startMs) / 1000)), commitP50Ms, commitP99Ms };
}

async function writeLone(journal: Awaited<ReturnType<typeof open>>) {
  const tookMs: number[] = [];
  for (let i = 0; i < LONE_ROWS; i++) {
    const startMs = performance.now();
    await journal.write(batchOf([row(i)]));
    tookMs.push(performance.now() - startMs);
  }
  tookMs.sort((a, b) => a - b);
  return { p50Ms: tookMs[LONE_ROWS >> 1], p99Ms: tookMs[Math.floor(LONE_ROWS * 0.99)] };
}

async function readBack() {
  const startMs = performance.now();
  const journal = await open();
  const openMs = performance.now() - startMs;
  let rows = 0;
  await journal.replay(() => rows++);
  const replayMs = performance.now() - startMs - openMs;
  await journal.close();
  return { rows, openMs, replayMs };
}

try {
  const journal = await open();
  await journal.replay(() => {});
  const fresh = await writeAll(journal);
  const again = await writeAll(journal);
  const lone = await writeLone(journal);
  const { fileBytes } = journal.stats();
  await journal.close();
  const machine = `${cpus()[0]?.model ?? "unknown"} × ${cpus().length}`;
  const settings = { rows: ROWS, batchRows: BATCH_ROWS, recordBytes: RECORD_BYTES, inFlight: IN_FLIGHT };
  console.log(
    JSON.stringify({ bench: "journal", machine, node: process.version, settings, fresh, again, lone, fileBytes, read: await readBack() }),
  );
} finally {
  rmSync(directory, { recursive: true, force: true });
}
