/** An inflater that answers when a test says so; a compressed message is the plain one with a 1 before it. */
import type { InflateResult, Inflater } from "../../src/grpc/wire/message-reader.ts";

export class LateInflater implements Inflater {
  /** Messages that were not released. */
  openCount = 0;
  readonly #waiting: (() => void)[] = [];
  readonly #answer: (bytes: Uint8Array) => InflateResult;

  constructor(answer: (bytes: Uint8Array) => InflateResult = (bytes) => bytes.subarray(1)) {
    this.#answer = answer;
  }

  inflate({ bytes }: { readonly bytes: Uint8Array }) {
    this.openCount += 1;
    let isReleased = false;
    const inflation = {
      result: undefined as InflateResult | undefined,
      onResult: undefined as ((result: InflateResult) => void) | undefined,
      release: () => {
        if (!isReleased) this.openCount -= 1;
        isReleased = true;
      },
    };
    this.#waiting.push(() => {
      if (!isReleased) inflation.onResult?.(this.#answer(bytes));
    });
    return inflation;
  }

  settle(): void {
    this.#waiting.shift()?.();
  }
}
