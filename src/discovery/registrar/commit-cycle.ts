/** Group commit: while one batch is on its way to the journal, the next one collects calls (semantics.md, Durability). */

import type { WriteBatch } from "../../catalog/batch.ts";
import type { Time } from "../../lib/machine.ts";
import type { Registrar } from "./registrar.ts";

/** Number of a batch in this process, from 1. */
export type BatchNumber = number;
/** Nothing is staged and no batch is on its way: the caller's changes are already durable. */
export const NOTHING_TO_WAIT_FOR: BatchNumber = 0;

/** Longest time between two looks at leases and tombstones, in ms. */
const MAX_LOOK_MS = 1000;
/** Shortest time between two looks, in ms, so that leases that end shortly after each other end together. */
const MIN_LOOK_MS = 5;

type CommitTarget = Pick<Registrar, "abort" | "commit" | "hasWork" | "nextDeadlineMs" | "takeBatch" | "tick">;

/**
 * Decides when a batch starts, which batch a caller waits for, and when leases and tombstones are looked at. It writes nothing: the driver
 * gives each batch of `start` to the journal, and calls `landed` or `refused` when the journal has answered.
 */
export class CommitCycle {
  readonly #registrar: CommitTarget;
  /** The number of the last started batch. */
  #started: BatchNumber = NOTHING_TO_WAIT_FOR;
  /** The batch that is on its way. */
  #flight: WriteBatch | undefined;
  #lookedMonoMs: number;
  /** Kept until a look, a commit or a refusal changes it, because asking the registrar is expensive. */
  #dueMonoMs: number | undefined;

  constructor(registrar: CommitTarget, { monoMs }: Pick<Time, "monoMs">) {
    this.#registrar = registrar;
    this.#lookedMonoMs = monoMs;
  }

  /** The batch that will contain everything staged so far, or `NOTHING_TO_WAIT_FOR`. It may not have started yet. */
  durable(): BatchNumber {
    if (this.#registrar.hasWork) return this.#started + 1;
    return this.#flight === undefined ? NOTHING_TO_WAIT_FOR : this.#started;
  }

  /** The next batch for the journal. Undefined while one is on its way, and when nothing is staged. */
  start(): WriteBatch | undefined {
    if (this.#flight !== undefined) return undefined;
    this.#flight = this.#registrar.takeBatch();
    if (this.#flight !== undefined) this.#started += 1;
    return this.#flight;
  }

  /** The batch on its way is on disk: its records become visible. Returns its number, for the callers that wait. */
  landed(time: Time): BatchNumber {
    if (this.#flight !== undefined) this.#registrar.commit(this.#flight, time);
    this.#flight = undefined;
    this.#dueMonoMs = undefined;
    return this.#started;
  }

  /**
   * The journal refused the batch on its way. It is undone, and so are later staged records, which depend on it. Returns the number of the
   * batch that would have held these. Callers that wait for that number or the one before get the error.
   */
  refused(): BatchNumber {
    if (this.#flight !== undefined) this.#registrar.abort(this.#flight);
    this.#flight = undefined;
    this.#dueMonoMs = undefined;
    this.#started += 1;
    return this.#started;
  }

  /** Ends leases and collects tombstones when that is due. */
  tick(time: Time): void {
    if (time.monoMs < this.nextDeadlineMs()) return;
    this.#lookedMonoMs = time.monoMs;
    this.#registrar.tick(time);
    this.#dueMonoMs = undefined;
  }

  /** Monotonic ms of the next look. */
  nextDeadlineMs(): number {
    this.#dueMonoMs ??= Math.min(
      this.#lookedMonoMs + MAX_LOOK_MS,
      Math.max(this.#lookedMonoMs + MIN_LOOK_MS, this.#registrar.nextDeadlineMs()),
    );
    return this.#dueMonoMs;
  }
}
