/** Lets so many through at once. The others wait, in the order in which they came. */
import { assert } from "../../lib/errors.ts";

export class Turnstile {
  readonly #most: number;
  #count = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  /** Resolves when the caller may go on. It must call `leave` afterwards. */
  enter(): Promise<void> {
    if (this.#count < this.#most) {
      this.#count += 1;
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  leave(): void {
    assert(this.#count > 0, "only who entered leaves");
    const next = this.#waiting.shift();
    if (next === undefined) this.#count -= 1;
    else next();
  }
}
