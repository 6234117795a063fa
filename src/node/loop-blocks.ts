/** Counts how long the event loop was held, and decides when an operator is told. */
import type { Histogram } from "../lib/metrics/metrics.ts";

/** The loop is looked at this often by a timer, which wakes an idle node. A hold may be measured this much shorter than it was. */
export const LOOK_MS = 20;
/** The longest hold of each second counts. */
const SECOND_MS = 1000;
/** A hold from this length on is worth a line in the log. */
const WARN_MS = 250;
/** The log has a line about holds at most this often, in seconds. */
const WARN_EVERY_S = 60;

export interface LoopWarning {
  /** The longest hold since the last warning, in ms. */
  readonly blockMs: number;
  /** In how many seconds there was a hold that is worth a line, since the last warning. */
  readonly seconds: number;
}

export class LoopBlocks {
  readonly #histogram: Pick<Histogram, "observe">;
  #lookedMonoMs: number | undefined;
  #secondEndMonoMs = 0;
  /** The longest hold in this second. */
  #blockMs = 0;
  #longestMs = 0;
  #seconds = 0;
  #quietS = WARN_EVERY_S;

  constructor(histogram: Pick<Histogram, "observe">) {
    this.#histogram = histogram;
  }

  /** To be called every `LOOK_MS`. Returns what the operator is to be told, if anything. */
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
