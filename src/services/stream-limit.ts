/** Bounds the number of open streams of one rpc, of all callers together. */
import { WaymarkError } from "../lib/errors.ts";

export class StreamLimit {
  readonly #what: string;
  readonly #max: number;
  #openCount = 0;

  /** `what` names the streams in the error. */
  constructor(what: string, max: number) {
    this.#what = what;
    this.#max = max;
  }

  /** Opens a stream, which calls `onClose` once when it has ended. Throws `quota_exceeded` if too many streams are open. */
  open<S>(make: (onClose: () => void) => S): S {
    if (this.#openCount >= this.#max)
      throw new WaymarkError(
        "quota_exceeded",
        `too many ${this.#what}: ${this.#max} are open on this node, which is the limit; retry later or use another node`,
        { retryMs: 1000 },
      );
    const stream = make(() => {
      this.#openCount -= 1;
    });
    this.#openCount += 1;
    return stream;
  }
}
