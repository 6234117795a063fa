/**
 * Open streams of callers that were authenticated with a credential. When credentials change, all these streams are checked again in batches.
 */

export interface KnownStream {
  /** Ends the stream unless its caller would be admitted now with the same identity. */
  checkCaller(): void;
}

/** Maximum number of streams in a batch. Each check needs a few microseconds, during which other calls wait. */
const CHECKED_AT_A_TIME = 100;

export class KnownStreams {
  /** Calls `act` in a later turn of the event loop. */
  readonly #later: (act: () => void) => void;
  readonly #open = new Set<KnownStream>();
  /** The streams that have not been checked yet. Undefined when all streams have been checked since the last credential change. */
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

  /** Checks all streams after a credential change. Restarts with the first stream if a check is in progress. */
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
