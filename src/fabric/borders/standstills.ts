/** For how long this node stood still lately. What it hears next may have waited as long, and what it said before may be as old. */
import type { Time } from "../../lib/machine.ts";

interface Standstill {
  readonly forMs: number;
  readonly untilMonoMs: number;
}

export class Standstills {
  /** Each counts for so long. */
  readonly #keptMs: number;
  #all: readonly Standstill[] = [];

  constructor(keptMs: number) {
    this.#keptMs = keptMs;
  }

  /** This node stood still for so long until now. */
  add(forMs: number, { monoMs }: Time): void {
    const lately = this.#all.filter(({ untilMonoMs }) => monoMs < untilMonoMs);
    this.#all = [...lately, { forMs, untilMonoMs: monoMs + this.#keptMs }];
  }

  /** All of them together. */
  sumMs({ monoMs }: Time): number {
    return this.#all.reduce((sum, { forMs, untilMonoMs }) => sum + (monoMs < untilMonoMs ? forMs : 0), 0);
  }
}
