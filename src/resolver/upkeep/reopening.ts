/** When the streams of a resolver are opened again because its credentials changed: soon, and not at the moment at which all other resolvers do it. */
import { NEVER } from "../../lib/machine.ts";

/** Resolvers whose credentials are changed together are told so in the same second. */
const WITHIN_MS = 5000;

export class Reopening {
  /** A random number, 0 ≤ x < 1. */
  readonly #random: () => number;
  #dueMonoMs = NEVER;

  constructor(random: () => number) {
    this.#random = random;
  }

  get dueMonoMs(): number {
    return this.#dueMonoMs;
  }

  /** Credentials have changed. What is due already is not put off. */
  ask(monoMs: number): void {
    this.#dueMonoMs = Math.min(this.#dueMonoMs, monoMs + WITHIN_MS * this.#random());
  }

  /** All streams that are open were opened since. */
  done(): void {
    this.#dueMonoMs = NEVER;
  }
}
