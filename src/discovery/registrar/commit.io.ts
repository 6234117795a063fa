/** Runs the registrar's commit cycle on the journal and the clock. */
import type { Time } from "../../lib/machine.ts";
import type { Batch } from "./batch.ts";
import { type BatchNumber, CommitCycle, NOTHING_TO_WAIT_FOR } from "./commit-cycle.ts";
import type { Registrar } from "./registrar.ts";

export interface CommitterPorts {
  write(batch: Batch): Promise<void>;
  now(): Time;
  /** Records became visible, so long after they were handed to the journal. */
  onCommitted(recordCount: number, commitMs: number): void;
}

/** What the callers of one batch wait for. */
interface Settlement {
  readonly batch: BatchNumber;
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class Committer {
  readonly #cycle: CommitCycle;
  readonly #ports: CommitterPorts;
  /** Of the batch on its way and of the one that gathers, as far as somebody waits for them. */
  #waiting: Settlement[] = [];
  #timer: NodeJS.Timeout | undefined;
  #isClosed = false;

  constructor(registrar: Registrar, ports: CommitterPorts) {
    this.#cycle = new CommitCycle(registrar, ports.now());
    this.#ports = ports;
    this.#arm();
  }

  /**
   * Resolves when everything staged so far is on disk and visible; rejects when it was refused and undone. Undefined when
   * there is nothing to wait for, so that an unchanged renewal costs no promise.
   */
  durable(): Promise<void> | undefined {
    const batch = this.#cycle.durable();
    if (batch === NOTHING_TO_WAIT_FOR) return undefined;
    let settlement = this.#waiting.find((each) => each.batch === batch);
    if (settlement === undefined) {
      settlement = { batch, ...Promise.withResolvers<void>() };
      this.#waiting.push(settlement);
    }
    this.#start();
    return settlement.promise;
  }

  /** Waits for what is staged, then stops looking at leases. Idempotent. */
  async close(): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    // What cannot be written is undone and its callers are told; a stop goes on.
    await this.durable()?.catch(() => undefined);
  }

  #start(): void {
    const started = this.#cycle.start();
    if (started === undefined) return;
    const startMonoMs = this.#ports.now().monoMs;
    this.#ports.write(started.batch).then(
      () => this.#landed(started.batch, startMonoMs),
      (error: unknown) => this.#refused(error),
    );
  }

  #landed({ puts }: Batch, startMonoMs: number): void {
    const time = this.#ports.now();
    const batch = this.#cycle.landed(time);
    for (const each of this.#settled(batch)) each.resolve();
    this.#start();
    this.#ports.onCommitted(puts.length, time.monoMs - startMonoMs);
    this.#arm();
  }

  #refused(error: unknown): void {
    const batch = this.#cycle.refused();
    for (const each of this.#settled(batch)) each.reject(error);
    this.#arm();
  }

  #settled(through: BatchNumber): readonly Settlement[] {
    const settled = this.#waiting.filter(({ batch }) => batch <= through);
    this.#waiting = this.#waiting.filter(({ batch }) => batch > through);
    return settled;
  }

  #arm(): void {
    if (this.#isClosed) return;
    clearTimeout(this.#timer);
    const waitMs = Math.max(0, Math.ceil(this.#cycle.nextDeadlineMs() - this.#ports.now().monoMs));
    this.#timer = setTimeout(() => {
      this.#cycle.tick(this.#ports.now());
      this.#start();
      this.#arm();
    }, waitMs);
    this.#timer.unref();
  }
}
