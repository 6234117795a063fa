/**
 * The journal's contract: it makes this node's own records, leases and identity durable in batches, and gives them back at a restart
 * (semantics.md, Durability and Restart). `journal.io.ts` keeps them on disk or, for `--ephemeral`, nowhere.
 */

import type { BatchLease, RestoredPut, WriteBatch } from "../../catalog/batch.ts";
import type { JournalMeta } from "./format.ts";

/**
 * What a directory knew when it was opened. The generation is new when the directory was empty, when a new one is forced, and always without a
 * disk; else it is as at the start before. Rows keep their seqs in a new generation.
 */
export interface RestoredJournal extends JournalMeta {
  readonly leases: readonly BatchLease[];
  /** The name of this start, which no other start of any directory has. Durable when `nameStart` resolves. */
  readonly boot: string;
  /** Names of the earlier starts that others may have heard of, the latest first, 1,000 at most; undefined without a disk. */
  readonly earlierBoots: readonly string[] | undefined;
}

/** For `/metrics/persistence`. */
export interface JournalStats {
  readonly formatVersion: number;
  /** Batches made durable since the start. */
  readonly batches: number;
  /** Rows in those batches. */
  readonly rows: number;
  /** Bytes in those batches. */
  readonly bytes: number;
  /** Rows that the file holds now: live records and tombstones. */
  readonly heldRows: number;
  /** Time that the last batch took from `write` to its answer. */
  readonly lastBatchMs: number;
  /** Quantiles over the last 1024 commits, their fsync included. */
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
  /** The latest failure of a batch or a checkpoint; empty when there was none. */
  readonly lastError: string;
  /** Whether the last batch was refused, so that the disk takes no writes now. */
  readonly isFailing: boolean;
}

/** One open data directory. */
export interface Journal extends AsyncDisposable {
  readonly restored: RestoredJournal;
  /**
   * Gives every row to `onRow` in order of seq, and then opens the file for writing. To be called once, before `write`.
   * Rejects with `store_unavailable` when a row is damaged (the files stay as they were), and when the disk refuses the note
   * of this boot. Cost: about 1 µs a row; memory for two thousand rows.
   */
  replay(onRow: (row: RestoredPut) => void): Promise<void>;
  /**
   * Resolves when the batch is on disk. Batches are written in the order of the calls, and a refused one does not stop those
   * behind it. Rejects with `store_unavailable` (`retryMs` set) when the disk refuses the batch; then nothing of it is kept.
   * `batch` is copied before this returns.
   */
  write(batch: WriteBatch): Promise<void>;
  /**
   * Makes the rows those of another generation, and resolves when that is on disk. To be called after `replay`. Rejects with
   * `store_unavailable` when the disk refuses; the generation is then the one before.
   */
  renewGeneration(generation: number): Promise<void>;
  /**
   * Stores the name of this start, and resolves when it is on disk. To be called once, after `replay` and before others hear of this start. Later
   * starts know nothing of a start that ended before. Rejects with `store_unavailable` when the disk refuses.
   */
  nameStart(): Promise<void>;
  stats(): JournalStats;
  /** Answers the batches that were handed over, then closes. Idempotent. */
  close(): Promise<void>;
}
