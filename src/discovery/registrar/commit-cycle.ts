/** Implements group commit: while one batch is being written to the journal, the next one collects calls (semantics.md, Durability). */

import type { WriteBatch } from "../../catalog/batch.ts";
import type { Time } from "../../lib/machine.ts";
import type { Registrar } from "./registrar.ts";

/** Number of a batch in this process, starting at 1. */
export type BatchNumber = number;
/**
 * The batch number for a caller that need not wait, because nothing is staged and no batch is in flight: the caller's changes are already durable.
 */
export const NOTHING_TO_WAIT_FOR: BatchNumber = 0;

/** Maximum time between two ticks for leases and tombstones, in ms. */
const MAX_TICK_INTERVAL_MS = 1000;
/** Minimum time between two ticks, in ms, so that leases that expire shortly after one another are ended together. */
const MIN_TICK_INTERVAL_MS = 5;

type CommitTarget = Pick<Registrar, "abort" | "commit" | "hasWork" | "nextDeadlineMs" | "takeBatch" | "tick">;

/**
 * Decides when a batch starts, which batch a caller waits for, and when leases and tombstones are processed. This class does not write anything
 * itself: the driver passes each batch from `start` to the journal, and calls `landed` or `refused` with the outcome.
 */
export class CommitCycle {
  readonly #registrar: CommitTarget;
  /** The number of the last started batch. */
  #started: BatchNumber = NOTHING_TO_WAIT_FOR;
  /** The batch in flight. */
  #flight: WriteBatch | undefined;
  #tickedMonoMs: number;
  /** Cached until a tick, a commit or a failure changes it, because the registrar computes it slowly. */
  #dueMonoMs: number | undefined;

  constructor(registrar: CommitTarget, { monoMs }: Pick<Time, "monoMs">) {
    this.#registrar = registrar;
    this.#tickedMonoMs = monoMs;
  }

  /** Returns the number of the batch that will contain everything staged so far, or `NOTHING_TO_WAIT_FOR`. The batch might start later. */
  durable(): BatchNumber {
    if (this.#registrar.hasWork) return this.#started + 1;
    return this.#flight === undefined ? NOTHING_TO_WAIT_FOR : this.#started;
  }

  /** Starts the next batch for the journal. Returns undefined while a batch is in flight, or if nothing is staged. */
  start(): WriteBatch | undefined {
    if (this.#flight !== undefined) return undefined;
    this.#flight = this.#registrar.takeBatch();
    if (this.#flight !== undefined) this.#started += 1;
    return this.#flight;
  }

  /**
   * Called when the batch in flight is on disk, so that its records become visible. Returns the batch number, for the callers that wait for the
   * batch.
   */
  landed(time: Time): BatchNumber {
    if (this.#flight !== undefined) this.#registrar.commit(this.#flight, time);
    this.#flight = undefined;
    this.#dueMonoMs = undefined;
    return this.#started;
  }

  /**
   * Called when the batch in flight has failed. The batch is undone, together with records that were staged after it, which depend on it.
   * Returns the number of the batch that would have contained those later records. Callers that wait for this batch or the failed one get the error.
   */
  refused(): BatchNumber {
    if (this.#flight !== undefined) this.#registrar.abort(this.#flight);
    this.#flight = undefined;
    this.#dueMonoMs = undefined;
    this.#started += 1;
    return this.#started;
  }

  /** Ends expired leases and collects tombstones if a tick is due. */
  tick(time: Time): void {
    if (time.monoMs < this.nextDeadlineMs()) return;
    this.#tickedMonoMs = time.monoMs;
    this.#registrar.tick(time);
    this.#dueMonoMs = undefined;
  }

  /** Time of the next tick, in monotonic ms. */
  nextDeadlineMs(): number {
    this.#dueMonoMs ??= Math.min(
      this.#tickedMonoMs + MAX_TICK_INTERVAL_MS,
      Math.max(this.#tickedMonoMs + MIN_TICK_INTERVAL_MS, this.#registrar.nextDeadlineMs()),
    );
    return this.#dueMonoMs;
  }
}
