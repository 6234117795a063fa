/**
 * The interface of the journal, which makes this node's own records, leases and identity durable in batches, and restores them at a restart
 * (semantics.md, Durability and Restart). `journal.io.ts` implements it, with a file on disk, or without one for `--ephemeral`.
 */

import type { BatchLease, RestoredPut, WriteBatch } from "../../catalog/batch.ts";
import type { JournalMeta } from "./format.ts";

/**
 * The contents of a directory when it was opened. The generation is new if the directory was empty, if a new generation is forced, and always
 * without a disk. Otherwise, it is the same as at the previous start. Rows keep their seqs in a new generation.
 */
export interface RestoredJournal extends JournalMeta {
  readonly leases: readonly BatchLease[];
  /** The name of this process instance, unique among all starts of all directories. Durable when `nameStart` resolves. */
  readonly boot: string;
  /** Names of earlier process instances that other nodes may know, latest first, at most 1,000. Undefined without a disk. */
  readonly earlierBoots: readonly string[] | undefined;
}

/** The values of `/metrics/persistence`. */
export interface JournalStats {
  readonly formatVersion: number;
  /** Batches made durable since the start. */
  readonly batches: number;
  /** Rows in those batches. */
  readonly rows: number;
  /** Bytes in those batches. */
  readonly bytes: number;
  /** Rows in the file: live records and tombstones. */
  readonly heldRows: number;
  /** Time from `write` to the answer for the last batch. */
  readonly lastBatchMs: number;
  /** Quantiles over the last 1024 commits, including their fsync. */
  readonly commitP50Ms: number;
  readonly commitP99Ms: number;
  /** Failed batches since the start. */
  readonly failures: number;
  /** Batches that were passed to the thread and have not been answered yet. */
  readonly queueDepth: number;
  /** Size of the file, without the log. */
  readonly fileBytes: number;
  /** Size of the write-ahead log. */
  readonly walBytes: number;
  /** The latest failure of a batch or a checkpoint. Empty when there was none. */
  readonly lastError: string;
  /** Whether the last batch failed, so the disk currently rejects writes. */
  readonly isFailing: boolean;
}

/** One open data directory. */
export interface Journal extends AsyncDisposable {
  readonly restored: RestoredJournal;
  /**
   * Passes every row to `onRow`, ordered by seq, and then opens the file for writing. Must be called once, before `write`. Rejects with
   * `store_unavailable` when a row is damaged (the files are then unchanged) or the number of this boot cannot be written. Costs about 1 µs per
   * row, and memory for two thousand rows.
   */
  replay(onRow: (row: RestoredPut) => void): Promise<void>;
  /**
   * Resolves when the batch is on disk. Batches are written in the order of the calls, and a failed batch does not stop the following ones.
   * Rejects with `store_unavailable` (`retryMs` set) when the write fails; no part of the batch is then stored. `batch` is copied before this
   * returns.
   */
  write(batch: WriteBatch): Promise<void>;
  /**
   * Assigns the rows to another generation, and resolves when that is on disk. Must be called after `replay`. Rejects with
   * `store_unavailable` when the write fails; the generation is then unchanged.
   */
  renewGeneration(generation: number): Promise<void>;
  /**
   * Stores the name of this process instance, and resolves when it is on disk. Must be called once, after `replay` and before the name is sent
   * to other nodes. A process that ends earlier stores no name. Rejects with `store_unavailable` when the write fails.
   */
  nameStart(): Promise<void>;
  stats(): JournalStats;
  /** Answers all earlier batches, and then closes. Idempotent. */
  close(): Promise<void>;
}
