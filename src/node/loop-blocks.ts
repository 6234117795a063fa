/** Measures how long the event loop was blocked, and decides when to log a warning. */
import type { Histogram } from "../lib/metrics/metrics.ts";

/**
 * Interval of the timer that checks the loop, in ms. The timer wakes an idle node. A block can measure shorter than it was by up to this interval.
 */
export const LOOK_MS = 20;
/** The histogram counts the longest block of each second. */
const SECOND_MS = 1000;
/** Shortest block that is logged, in ms. */
const WARN_MS = 250;
/** Minimum time between two warnings, in seconds. */
const WARN_EVERY_S = 60;

export interface LoopWarning {
  /** Length of the longest block since the last warning, in ms. */
  readonly blockMs: number;
  /** Number of seconds since the last warning with a block of at least `WARN_MS`. */
  readonly seconds: number;
}

export class LoopBlocks {
  readonly #histogram: Pick<Histogram, "observe">;
  #lookedMonoMs: number | undefined;
  #secondEndMonoMs = 0;
  /** Length of the longest block in the current second, in ms. */
  #blockMs = 0;
  #longestMs = 0;
  #seconds = 0;
  #quietS = WARN_EVERY_S;

  constructor(histogram: Pick<Histogram, "observe">) {
    this.#histogram = histogram;
  }

  /** Must be called every `LOOK_MS`. Returns a warning if one is due. */
  look(monoMs: number): LoopWarning | undefined {
    const lookedMonoMs = this.#lookedMonoMs ?? monoMs - LOOK_MS;
    if (this.#lookedMonoMs === undefined) this.#secondEndMonoMs = monoMs + SECOND_MS;
    this.#lookedMonoMs = monoMs;
    this.#blockMs = Math.max(this.#blockMs, monoMs - lookedMonoMs - LOOK_MS);
    if (monoMs < this.#secondEndMonoMs) return undefined;
    this.#secondEndMonoMs = monoMs + SECOND_MS;
    return this.#second();
  }

  #second(): LoopWarning | undefined {
    const blockMs = this.#blockMs;
    this.#blockMs = 0;
    this.#histogram.observe(blockMs);
    this.#quietS += 1;
    if (blockMs >= WARN_MS) {
      this.#seconds += 1;
      this.#longestMs = Math.max(this.#longestMs, blockMs);
    }
    if (this.#seconds === 0 || this.#quietS < WARN_EVERY_S) return undefined;
    const warning = { blockMs: Math.round(this.#longestMs), seconds: this.#seconds };
    this.#seconds = 0;
    this.#longestMs = 0;
    this.#quietS = 0;
    return warning;
  }
}
