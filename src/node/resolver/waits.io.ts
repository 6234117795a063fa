/** Calls that wait until something has come about. */
import { later } from "../../lib/later.io.ts";

interface Waiting {
  readonly isSo: () => boolean;
  readonly end: (isSo: boolean) => void;
}

export class Waits {
  readonly #waiting = new Set<Waiting>();

  /** Resolves with true as soon as a look finds that it is so, and with false after the time. */
  until(isSo: () => boolean, withinMs: number): Promise<boolean> {
    if (isSo()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const waiting: Waiting = {
        isSo,
        end: (outcome) => {
          this.#waiting.delete(waiting);
          cancel();
          resolve(outcome);
        },
      };
      const cancel = later(() => waiting.end(isSo()), withinMs);
      this.#waiting.add(waiting);
    });
  }

  /** Something changed. */
  look(): void {
    for (const waiting of this.#waiting) if (waiting.isSo()) waiting.end(true);
  }

  /** Nothing comes about any more. */
  close(): void {
    for (const waiting of this.#waiting) waiting.end(false);
  }
}
