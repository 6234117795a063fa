/** An inflater and a compressor that answer when a test says so; a compressed message is the plain one with a 1 before it. */
import type { Compression, Compressor, Inflated, Inflater } from "../../src/grpc/wire/encoding.ts";

export class LateInflater implements Inflater {
  /** Messages that were not released. */
  openCount = 0;
  readonly #waiting: (() => void)[] = [];
  readonly #answer: (bytes: Uint8Array) => Inflated;

  constructor(answer: (bytes: Uint8Array) => Inflated = (bytes) => bytes.subarray(1)) {
    this.#answer = answer;
  }

  inflate({ bytes }: { readonly bytes: Uint8Array }) {
    this.openCount += 1;
    let isReleased = false;
    const inflation = {
      result: undefined as Inflated | undefined,
      onResult: undefined as ((result: Inflated) => void) | undefined,
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

export class LateCompressor implements Compressor {
  readonly minBytes: number;
  readonly #waiting: (() => void)[] = [];

  constructor(minBytes: number) {
    this.minBytes = minBytes;
  }

  compress(bytes: Uint8Array): Compression {
    const compression: Compression = { result: undefined, onResult: undefined };
    this.#waiting.push(() => compression.onResult?.(Buffer.concat([Uint8Array.of(1), bytes])));
    return compression;
  }

  get waitingCount(): number {
    return this.#waiting.length;
  }

  settle(): void {
    this.#waiting.shift()?.();
  }
}
