/**
 * Open streams of callers that a credential authenticated. When credentials change, each of these streams is checked again, some at a time.
 */

export interface KnownStream {
  /** Ends the stream unless its caller would be admitted now with the same identity. */
  checkCaller(): void;
}

/** Streams checked in one go. Each check needs some microseconds, during which other calls wait. */
const CHECKED_AT_A_TIME = 100;

export class KnownStreams {
  /** Calls `act` in a later turn of the event loop. */
  readonly #later: (act: () => void) => void;
  readonly #open = new Set<KnownStream>();
  /** The streams that are still to check. Undefined when all were checked since the last change of credentials. */
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

  /** Checks all streams after a change of credentials. Restarts from the first stream if a check is in progress. */
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
