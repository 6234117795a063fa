/**
 * The interface of the journal, which makes this node's own records, leases and identity durable in batches, and restores them after a restart
 * (semantics.md, Durability and Restart). `journal.io.ts` implements this interface, either with a file on disk or, for `--ephemeral`, without one.
 */

import type { BatchLease, RestoredPut, WriteBatch } from "../../catalog/batch.ts";
import type { JournalMeta } from "./format.ts";

/**
 * The contents of a data directory when it was opened. The generation is new if the directory was empty, if a new generation is forced, or if there
 * is no disk. Otherwise, it is the same as at the previous start. Rows keep their seqs in the new generation.
 */
export interface RestoredJournal extends JournalMeta {
  readonly leases: readonly BatchLease[];
  /** The name of this process instance, which is unique among all starts with any directory. The name is durable when `nameStart` resolves. */
  readonly boot: string;
  /** Names of earlier process instances that other nodes may know, newest first, at most 1,000. Undefined without a disk. */
  readonly earlierBoots: readonly string[] | undefined;
}

/** The values of `/metrics/persistence`. */
export interface JournalStats {
  readonly formatVersion: number;
  /** Number of batches that were made durable since the start. */
  readonly batches: number;
  /** Number of rows in those batches. */
  readonly rows: number;
  /** Number of bytes in those batches. */
  readonly bytes: number;
  /** Number of rows in the file: live records and tombstones. */
  readonly heldRows: number;
  /** Time from `write` to the answer for the last batch. */
  readonly lastBatchMs: number;
  /** Quantiles over the last 1024 commits, including the fsync of each commit. */
  readonly commitP50Ms: number;
  readonly commitP99Ms: number;
  /** Number of failed batches since the start. */
  readonly failures: number;
  /** Number of batches that were passed to the thread and have not been answered yet. */
  readonly queueDepth: number;
  /** Size of the file, not including the write-ahead log. */
  readonly fileBytes: number;
  /** Size of the write-ahead log. */
  readonly walBytes: number;
  /** The latest failure of a batch or a checkpoint. Empty if there was no failure. */
  readonly lastError: string;
  /** Whether the last batch failed, which means that the disk currently rejects writes. */
  readonly isFailing: boolean;
}

/** One open data directory. */
export interface Journal extends AsyncDisposable {
  readonly restored: RestoredJournal;
  /**
   * Passes every row to `onRow` in order of seq, and then opens the file for writing. Must be called once, before `write`. Rejects with
   * `store_unavailable` if a row is damaged (the files are then unchanged) or if the number of this boot cannot be written. Cost: about 1 µs per row,
   * and memory for two thousand rows.
   */
  replay(onRow: (row: RestoredPut) => void): Promise<void>;
  /**
   * Writes a batch. Resolves when the batch is on disk. Batches are written in the order in which this method is called, and a failed batch does not
   * stop later ones. Rejects with `store_unavailable` (with `retryMs` set) if the write fails; no part of the batch is then stored. `batch` is copied
   * before this method returns.
   */
  write(batch: WriteBatch): Promise<void>;
  /**
   * Assigns the rows to another generation. Resolves when this change is on disk. Must be called after `replay`. Rejects with `store_unavailable` if
   * the write fails; the generation is then unchanged.
   */
  renewGeneration(generation: number): Promise<void>;
  /**
   * Stores the name of this process instance, and resolves when it is on disk. Must be called once, after `replay` and before the name is sent
   * to other nodes. If the process ends earlier, the name is not stored. Rejects with `store_unavailable` if the write fails.
   */
  nameStart(): Promise<void>;
  stats(): JournalStats;
  /** Answers all earlier batches, and then closes the journal. Idempotent. */
  close(): Promise<void>;
}
