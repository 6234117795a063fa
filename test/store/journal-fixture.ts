/** What the journal's tests share: a data directory of their own, batches as plain values, and the bytes of a directory. */
import { createHash } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { BatchLease, BatchPut, RestoredPut, WriteBatch } from "../../src/catalog/batch.ts";
import { type JournalOptions, openJournal } from "../../src/store/journal/journal.io.ts";
import type { Journal } from "../../src/store/journal/journal.ts";

const QUIET = { info: () => {}, warn: () => {}, error: () => {} };

/** A directory removed when the scope ends. */
export function temporaryDirectory(): Disposable & { readonly path: string } {
  const path = mkdtempSync(join(tmpdir(), "waymark-journal-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

export function open(directory: string, over: Partial<JournalOptions> = {}): Promise<Journal> {
  return openJournal({
    directory,
    nodeId: undefined,
    newNodeId: () => "n1",
    newGeneration: () => 7,
    forceNewGeneration: false,
    log: QUIET,
    ...over,
  });
}

/** Opened and read to its end. */
export async function openAndReplay(directory: string, over: Partial<JournalOptions> = {}) {
  const journal = await open(directory, over);
  const rows: RestoredPut[] = [];
  await journal.replay((row) => rows.push({ ...row, record: Uint8Array.from(row.record) }));
  return { journal, rows };
}

export function lease(leaseId: string, over: Partial<BatchLease> = {}): BatchLease {
  return { leaseId, ttlMs: 30_000, principal: "", idempotencyKey: "", grantedWallMs: 1, ...over };
}

export function put(key: string, seq: number, over: Partial<BatchPut> = {}): BatchPut {
  return { key, seq, record: new TextEncoder().encode(`${key}@${seq}`), leaseId: "", ...over };
}

/** The key in the record of a row that `put` made. */
export function keyOf({ record }: RestoredPut): string {
  return new TextDecoder().decode(record).split("@")[0] ?? "";
}

/** What comes back of a put. Its record has the key. */
export function rowOf({ key: _key, ...row }: BatchPut): RestoredPut {
  return row;
}

/** `lastSeq` is that of the last put unless given. */
export function batch(parts: Partial<WriteBatch>): WriteBatch {
  return { forget: [], leases: [], puts: [], endedLeases: [], lastSeq: parts.puts?.at(-1)?.seq ?? 0, floor: 0, ...parts };
}

/** Name → digest of every file of a directory except the lock, which a refused opener may create. */
export function directoryBytes(directory: string): Readonly<Record<string, string>> {
  const names = readdirSync(directory).filter((name) => !name.startsWith("journal.lock") && name !== "journal.pid");
  const digest = (name: string) =>
    createHash("sha256")
      .update(readFileSync(join(directory, name)))
      .digest("hex");
  return Object.fromEntries(names.toSorted().map((name) => [name, digest(name)]));
}
