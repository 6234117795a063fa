/** Open streams of callers whom a credential proved. When credentials change, each of them is looked at again, a few at a time. */

export interface KnownStream {
  /** Ends the stream unless its caller would be let in now, as who it was. */
  checkCaller(): void;
}

/** Looked at in one go: each takes some microseconds, and other calls wait meanwhile. */
const CHECKED_AT_A_TIME = 100;

export class KnownStreams {
  /** Calls `act` in a later turn of the event loop. */
  readonly #later: (act: () => void) => void;
  readonly #open = new Set<KnownStream>();
  /** Those that are still to be looked at. Undefined when credentials have not changed since all of them were. */
  #left: Iterator<KnownStream> | undefined;

  constructor(later: (act: () => void) => void) {
    this.#later = later;
  }

  add(stream: KnownStream): void {
    this.#open.add(stream);
  }

  delete(stream: KnownStream): void {
    this.#open.delete(stream);
  }

  /** Credentials have changed: looks at all streams, from the first if it was looking already. */
  check(): void {
    const isChecking = this.#left !== undefined;
    this.#left = this.#open.values();
    if (!isChecking) this.#checkSome();
  }

  #checkSome(): void {
    for (let i = 0; i < CHECKED_AT_A_TIME; i++) {
      const next = this.#left?.next();
      if (next === undefined || next.done === true) {
        this.#left = undefined;
        return;
      }
      next.value.checkCaller();
    }
    this.#later(() => this.#checkSome());
  }
}
