/** gzip for messages: a compressor, and an inflater with a plain bound for those who have no budget to share (tests, clients of servers they trust). */
import { gunzip, gzip, gzipSync, inflate, type ZlibOptions } from "node:zlib";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import type { Compressed, Compression, Compressor, Inflated, Inflater, Inflation } from "./encoding.ts";

/** Up to here a message is compressed at once: a trip to zlib's thread costs more. */
const SMALL_BYTES = 16_384;

/** Compresses messages of at least `minBytes`; smaller ones hardly become smaller. */
export function gzipCompressor(minBytes = 1_024): Compressor {
  return {
    minBytes,
    compress: (bytes) => {
      if (bytes.length <= SMALL_BYTES) return { result: gzipSync(bytes), onResult: undefined };
      const compression: Compression = { result: undefined, onResult: undefined };
      gzip(bytes, (error, compressed) => {
        if (error !== null) throw error; // Only memory can be lacking.
        compression.onResult?.(compressed);
      });
      return compression;
    },
  };
}

/** Inflates each message up to its bound, in zlib's threads, and holds at most `maxOpen` of them. What is beyond is refused with `quota_exceeded`. */
export function boundedInflater(maxOpen = 8): Inflater {
  let openCount = 0;
  return {
    inflate: (message) => {
      if (openCount >= maxOpen) return refused(new WaymarkError("quota_exceeded", `${maxOpen} compressed messages are handled already`));
      openCount += 1;
      return new Running(message, () => {
        openCount -= 1;
      });
    },
  };
}

function refused(error: WaymarkError): Inflation {
  return { result: error, onResult: undefined, release: () => {} };
}

class Running implements Inflation {
  readonly result = undefined;
  onResult: ((result: Inflated) => void) | undefined;
  readonly #released: () => void;
  #isReleased = false;

  constructor({ encoding, bytes, maxMessageBytes }: Compressed, released: () => void) {
    this.#released = released;
    const options: ZlibOptions = { maxOutputLength: Math.max(1, maxMessageBytes) };
    (encoding === "gzip" ? gunzip : inflate)(bytes, options, (error, inflated) => {
      if (!this.#isReleased) this.onResult?.(error === null ? inflated : unreadable(error, maxMessageBytes));
    });
  }

  release(): void {
    if (!this.#isReleased) this.#released();
    this.#isReleased = true;
  }
}

function unreadable(error: NodeJS.ErrnoException, maxBytes: number): WaymarkError {
  if (error.code === "ERR_BUFFER_TOO_LARGE")
    return new WaymarkError("quota_exceeded", `a message is at most ${maxBytes} bytes, this one is larger when inflated`);
  return invalid("request", `a compressed message cannot be inflated (${error.code ?? "unknown"})`);
}
