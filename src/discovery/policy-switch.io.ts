/** Runs changes of policy one after another, each in slices of the event loop. */
import { performance } from "node:perf_hooks";
import type { Replica } from "../catalog/replica/replica.ts";
import type { Fanout } from "./fanout.ts";

/** Longest time one slice may take, and once a change has taken long. */
const SLICE_MS = 5;
const LATE_SLICE_MS = 15;
const LATE_AFTER_MS = 1500;
/** Records looked at, or what costs as much, between two looks at the clock. */
const STEP_COUNT = 128;
/** After a change, watches have this long to hear it out before the next begins, and only while some of them come further. */
const HEARING_MS = 10_000;
const STILL_MS = 1000;
/** Between two looks at whether they have. */
const LOOK_MS = 20;

/** Calls `step` until it returns true, never holding the loop for long; resolves then. */
export function runSlices(step: (maxCount: number) => boolean): Promise<void> {
  const startMs = performance.now();
  return new Promise((resolve) => {
    const slice = () => {
      const nowMs = performance.now();
      const end = nowMs + (nowMs - startMs < LATE_AFTER_MS ? SLICE_MS : LATE_SLICE_MS);
      while (performance.now() < end) if (step(STEP_COUNT)) return resolve();
      setImmediate(slice);
    };
    slice();
  });
}

interface QueueParts {
  readonly fanout: Pick<Fanout, "watchers">;
  readonly replica: Pick<Replica, "revision">;
}

interface QueueClock {
  readonly nowMs: () => number;
  readonly wait: (forMs: number) => Promise<void>;
}

const CLOCK: QueueClock = {
  nowMs: () => performance.now(),
  wait: (forMs) => new Promise((resolve) => setTimeout(resolve, forMs)),
};

/** One change after another, and between two of them a time in which watches come to their END. */
export class SwitchQueue {
  readonly #parts: QueueParts;
  readonly #clock: QueueClock;
  #last: Promise<unknown> = Promise.resolve();
  #heardByMs = 0;
  /** What watches have to have been told of. */
  #revision = 0;

  constructor(parts: QueueParts, clock: QueueClock = CLOCK) {
    this.#parts = parts;
    this.#clock = clock;
  }

  /** What is in force is to be shown at once: it waits for the change before, not for who hears of it. `change`: whether there was any. */
  run(change: () => Promise<boolean>): Promise<void> {
    const mine = this.#after(this.#last, change);
    this.#last = mine.catch(() => undefined);
    return mine;
  }

  /** Resolves when another policy may be put in force: the change before is through, and heard by everybody who is not slow. */
  async heard(): Promise<void> {
    await this.#last;
    let [unheard, movedMs] = [this.#unheard(), this.#clock.nowMs()];
    while (unheard.count > 0 && this.#clock.nowMs() < Math.min(this.#heardByMs, movedMs + STILL_MS)) {
      await this.#clock.wait(LOOK_MS);
      const now = this.#unheard();
      if (now.count < unheard.count || now.places > unheard.places) movedMs = this.#clock.nowMs();
      unheard = now;
    }
    this.#heardByMs = 0;
  }

  async #after(before: Promise<unknown>, change: () => Promise<boolean>): Promise<void> {
    await before;
    if (!(await change())) return;
    this.#heardByMs = this.#clock.nowMs() + HEARING_MS;
    this.#revision = this.#parts.replica.revision;
  }

  /** How many watches have not heard the last change out, and the sum of where they stand. */
  #unheard(): { readonly count: number; readonly places: number } {
    const { fanout, replica } = this.#parts;
    let [count, places] = [0, 0];
    if (this.#heardByMs === 0) return { count, places };
    for (const { isTelling, lagRevisions } of fanout.watchers()) {
      const place = replica.revision - lagRevisions;
      if (!isTelling && place >= this.#revision) continue;
      count += 1;
      places += place;
    }
    return { count, places };
  }
}
