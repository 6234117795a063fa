/** Runs the queue of policy changes on the event loop and its clock. */
import { performance } from "node:perf_hooks";
import { NEVER } from "../lib/machine.ts";
import type { ChangeNumber, SwitchQueue } from "./policy-switch-queue.ts";

/** Number of records, or units of equal cost, processed between two reads of the clock. */
const STEP_COUNT = 128;

/** A queue of changes for a node or a copy of its replica. */
type PolicyChangeQueue = Pick<
  SwitchQueue,
  "isAcknowledged" | "isRunning" | "isWaiting" | "look" | "nextDeadlineMs" | "onFollowed" | "shown" | "sliceMs" | "step"
>;

export class PolicySwitcher {
  readonly #queue: PolicyChangeQueue;
  readonly #onShown: () => void;
  #waiting: { readonly change: ChangeNumber; readonly resolve: () => void }[] = [];
  #isSlicing = false;

  /** `onShown` is called when readers must see a change, because it is complete, possibly except for copies. */
  constructor(queue: PolicyChangeQueue, onShown: () => void) {
    this.#queue = queue;
    this.#onShown = onShown;
    queue.onFollowed = () => this.#go();
  }

  /** Must be called when another policy may be in force. Resolves when every listener uses this policy. */
  async run(): Promise<void> {
    const change = this.#queue.look();
    this.#go();
    if (change > this.#queue.shown) await this.#shownWith(change);
  }

  /** Resolves when another policy can be put in force. */
  async heard(): Promise<void> {
    while (!this.#queue.isAcknowledged(clock())) {
      const lookMonoMs = this.#queue.nextDeadlineMs();
      if (lookMonoMs === NEVER) await this.#shownWith(this.#queue.shown + 1);
      else await new Promise((resolve) => setTimeout(resolve, Math.max(0, lookMonoMs - performance.now())));
    }
  }

  #shownWith(change: ChangeNumber): Promise<void> {
    return new Promise((resolve) => this.#waiting.push({ change, resolve }));
  }

  #go(): void {
    if (!this.#isSlicing) this.#slice();
  }

  /**
   * Runs a slice of work, and schedules the next slice for the following turn of the event loop. No slices run while the change is waiting for
   * copies.
   */
  #slice(): void {
    const queue = this.#queue;
    this.#isSlicing = true;
    const start = clock();
    const endMonoMs = start.monoMs + queue.sliceMs(start);
    for (let time = start; isAtWork(queue) && time.monoMs < endMonoMs; time = clock()) if (queue.step(STEP_COUNT, time)) this.#shown();
    this.#isSlicing = isAtWork(queue);
    if (this.#isSlicing) setImmediate(() => this.#slice());
  }

  #shown(): void {
    this.#onShown();
    const { shown } = this.#queue;
    const over = this.#waiting.filter(({ change }) => change <= shown);
    this.#waiting = this.#waiting.filter(({ change }) => change > shown);
    for (const { resolve } of over) resolve();
  }
}

function isAtWork({ isRunning, isWaiting }: PolicyChangeQueue): boolean {
  return isRunning && !isWaiting;
}

function clock() {
  return { monoMs: performance.now() };
}
