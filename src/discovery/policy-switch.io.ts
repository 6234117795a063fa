/** Runs the queue of policy changes on the event loop and its clock. */
import { performance } from "node:perf_hooks";
import { NEVER } from "../lib/machine.ts";
import type { ChangeNumber, SwitchQueue } from "./switch-queue.ts";

/** Number of records, or the equal cost, between two looks at the clock. */
const STEP_COUNT = 128;

export class PolicySwitcher {
  readonly #queue: SwitchQueue;
  readonly #onShown: () => void;
  #waiting: { readonly change: ChangeNumber; readonly resolve: () => void }[] = [];
  #isSlicing = false;

  /** `onShown`: a change is complete, and readers must see it. */
  constructor(queue: SwitchQueue, onShown: () => void) {
    this.#queue = queue;
    this.#onShown = onShown;
  }

  /** Another policy may be in force. Resolves when every listener uses it. */
  async run(): Promise<void> {
    const change = this.#queue.look(clock());
    if (!this.#isSlicing) this.#slice();
    if (change > this.#queue.shown) await this.#shownWith(change);
  }

  /** Resolves when another policy may be put in force. */
  async heard(): Promise<void> {
    while (!this.#queue.isHeard(clock())) {
      const lookMonoMs = this.#queue.nextDeadlineMs();
      if (lookMonoMs === NEVER) await this.#shownWith(this.#queue.shown + 1);
      else await new Promise((resolve) => setTimeout(resolve, Math.max(0, lookMonoMs - performance.now())));
    }
  }

  #shownWith(change: ChangeNumber): Promise<void> {
    return new Promise((resolve) => this.#waiting.push({ change, resolve }));
  }

  #slice(): void {
    const queue = this.#queue;
    this.#isSlicing = true;
    const start = clock();
    const endMonoMs = start.monoMs + queue.sliceMs(start);
    for (let time = start; queue.isRunning && time.monoMs < endMonoMs; time = clock()) if (queue.step(STEP_COUNT, time)) this.#shown();
    this.#isSlicing = queue.isRunning;
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

function clock() {
  return { monoMs: performance.now() };
}
