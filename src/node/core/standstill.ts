/** How a node notices that its process stood still, so that nobody could be heard (semantics.md, Deadlines and standstills). */
import type { Time } from "../../lib/machine.ts";

/** The shell looks at the clock this often. */
export const LOOK_MS = 125;
/** Two looks of a process that runs are at most this far apart. */
const APART_MS = 2 * LOOK_MS;
/** A shorter standstill does not count. */
const LEAST_MS = 50;

export class Standstill {
  #lookedMonoMs: number | undefined;

  /** To be called at each look. Returns how long the process stood still; undefined when it did not. */
  looked({ monoMs }: Time): number | undefined {
    const lagMs = monoMs - (this.#lookedMonoMs ?? monoMs) - APART_MS;
    this.#lookedMonoMs = monoMs;
    return lagMs >= LEAST_MS ? lagMs : undefined;
  }
}
