/** Runs the registrar's batches through the journal: one in flight, the next gathers meanwhile (group commit). */
import type { Time } from "../../lib/machine.ts";
import type { Batch } from "./batch.ts";
import type { Registrar } from "./registrar.ts";

interface Waiter {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export interface CommitterPorts {
  write(batch: Batch): Promise<void>;
  now(): Time;
  /** Records became visible, so long after they were handed to the journal. */
  onCommitted(recordCount: number, commitMs: number): void;
}

/** Longest time between two looks at leases and tombstones. */
const MAX_TICK_MS = 1000;
const MIN_TICK_MS = 5;

export class Committer {
  readonly #registrar: Registrar;
  readonly #ports: CommitterPorts;
  #flight: Waiter[] | undefined;
  #open: Waiter[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(registrar: Registrar, ports: CommitterPorts) {
    this.#registrar = registrar;
    this.#ports = ports;
    this.#arm();
  }

  /**
   * Resolves when everything staged so far is on disk and visible; rejects when it was refused and undone. Undefined when
   * there is nothing to wait for, so that an unchanged renewal costs no promise.
   */
  durable(): Promise<void> | undefined {
    if (!this.#registrar.hasWork) {
      const flight = this.#flight;
      return flight === undefined ? undefined : new Promise((resolve, reject) => flight.push({ resolve, reject }));
    }
    const promise = new Promise<void>((resolve, reject) => this.#open.push({ resolve, reject }));
    this.#start();
    return promise;
  }

  /** Waits for what is staged, then stops looking at leases. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    // What cannot be written is undone and its callers are told; a stop goes on.
    await this.durable()?.catch(() => undefined);
  }

  #start(): void {
    if (this.#flight !== undefined) return;
    const batch = this.#registrar.takeBatch();
    if (batch === undefined) return;
    const flight = this.#open;
    this.#flight = flight;
    this.#open = [];
    const startMonoMs = this.#ports.now().monoMs;
    this.#ports.write(batch).then(
      () => this.#settled(batch, flight, startMonoMs),
      (error: unknown) => this.#failed(batch, flight, error),
    );
  }

  #settled(batch: Batch, flight: readonly Waiter[], startMonoMs: number): void {
    this.#flight = undefined;
    const time = this.#ports.now();
    this.#registrar.commit(batch, time);
    for (const waiter of flight) waiter.resolve();
    this.#start();
    this.#ports.onCommitted(batch.puts.length, time.monoMs - startMonoMs);
    this.#arm();
  }

  #failed(batch: Batch, flight: readonly Waiter[], error: unknown): void {
    this.#flight = undefined;
    this.#registrar.abort(batch);
    const lost = [...flight, ...this.#open];
    this.#open = [];
    for (const waiter of lost) waiter.reject(error);
    this.#arm();
  }

  #arm(): void {
    if (this.#isClosed) return;
    clearTimeout(this.#timer);
    const next = this.#registrar.nextDeadlineMs();
    const waitMs = next === undefined ? MAX_TICK_MS : Math.min(MAX_TICK_MS, Math.max(MIN_TICK_MS, next - this.#ports.now().monoMs));
    this.#timer = setTimeout(() => {
      this.#registrar.tick(this.#ports.now());
      this.#start();
      this.#arm();
    }, waitMs);
    this.#timer.unref();
  }
}
