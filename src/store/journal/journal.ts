/**
 * The journal's contract: this node's own records, leases and identity, durable in groups, read once at a restart
 * (semantics.md, Durability and Restart). `journal.io.ts` keeps it on disk or, for `--ephemeral`, nowhere.
 */

import type { JournalBatch, JournalLease, JournalPut, SeqNumbers } from "./format.ts";

/** What a directory knew when it was opened. */
export interface Restored {
  readonly nodeId: string;
  /** New when the directory was empty, when it was forced, and always without a disk; else the one before. */
  readonly generation: number;
  /** Highest seq ever handed out. The rows keep their seqs in a new generation. */
  readonly lastSeq: number;
  readonly floor: number;
  readonly leases: readonly JournalLease[];
  /** How many times the directory was opened, this one included: differs from boot to boot. */
  readonly boots: number;
  /** What this start is called: no other start of any directory has that name. Durable when `nameStart` resolves. */
  readonly boot: string;
  /** What earlier starts of the directory were called, the last one first; undefined without a disk. Only those of which others may have heard, 1,000 at most. */
  readonly earlierBoots: readonly string[] | undefined;
}

/** For `/metrics/persistence`. */
export interface JournalStats {
  /** Of the file; empty without a disk. */
  readonly path: string;
  readonly formatVersion: number;
  /** Batches made durable since the start. */
  readonly batches: number;
  /** Rows in them. */
  readonly rows: number;
  /** Bytes in them. */
  readonly bytes: number;
  /** Rows the file holds now: live records and tombstones. */
  readonly heldRows: number;
  /** Hand-over to answer of the last batch. */
  readonly lastBatchMs: number;
  /** Of the last 1024 commits, the fsync included. */
  readonly commitP50Ms: number;
  readonly commitP99Ms: number;
  /** Batches refused since the start. */
  readonly failures: number;
  /** Batches handed over and not answered yet. */
  readonly queueDepth: number;
  /** Size of the file, without the log. */
  readonly fileBytes: number;
  /** Size of the write-ahead log. */
  readonly walBytes: number;
  /** Newest failure, of a batch or a checkpoint; empty when there was none. */
  readonly lastError: string;
  /** Whether the last batch was refused: the disk does not take writes now. */
  readonly isFailing: boolean;
}

/** One open data directory. */
export interface Journal extends AsyncDisposable {
  readonly restored: Restored;
  /**
   * Gives every row to `onRow` in seq order and then opens the file for writing; to be called once, before `write`.
   * Rejects with `store_unavailable` when a row is damaged, the files left as they were, or when the disk does not take
   * the note of this boot. Cost: about 1 µs a row; memory for two thousand rows.
   */
  replay(onRow: (row: JournalPut) => void): Promise<void>;
  /**
   * Resolves when the batch is on disk; batches are written in the order of the calls, each by itself: one that is
   * refused does not stop those behind it. Rejects with `store_unavailable` (`retryMs` set) when the disk refuses; then
   * nothing of the batch is kept. `batch` is copied before this returns.
   */
  write(batch: JournalBatch): Promise<void>;
  /**
   * Resolves when the rows are, durably, those of another generation; to be called after `replay`. Rejects with
   * `store_unavailable` when the disk refuses, and then the generation is the one before. `numbers` replace what the file has: the
   * ones a node goes on from where those on disk are beyond all that others take.
   */
  renewGeneration(generation: number, numbers?: SeqNumbers): Promise<void>;
  /**
   * Resolves when it is on disk that this start was one; to be called once, after `replay` and before others hear of it. A start that ends
   * before is none for those that follow. Rejects with `store_unavailable` when the disk refuses.
   */
  nameStart(): Promise<void>;
  stats(): JournalStats;
  /** Answers what was handed over, then closes. Idempotent. */
  close(): Promise<void>;
}
