/**
 * How a JSON text is built, seen before it is parsed: a parser takes seconds of one turn for four million brackets, or for names without an end.
 */

import { PREFIX_BYTES, sizeIn } from "../grpc/wire/framing.ts";
import { invalid, type WaymarkError } from "../lib/errors.ts";

/** As deep as a message may be (`json-fault.ts`). */
const MAX_DEPTH = 100;
/** Names and items, by the signs between them: a registration of 1,000 entries with all that they may have is below. */
const MAX_PARTS = 250_000;

const QUOTE = 0x22;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_LIST = 0x5b;
const BACKSLASH = 0x5c;
const CLOSE_LIST = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/** The flag before a text of a stream. */
const COMPRESSED = 1;

/** Of one text, piece by piece. Whether it is JSON at all is for the parser to say. */
export class JsonShape {
  #depth = 0;
  #partCount = 0;
  #isInText = false;
  #isEscaped = false;

  /** Looks at the next bytes; returns why the text is not parsed, once it is known. O(bytes). */
  look(bytes: Uint8Array): WaymarkError | undefined {
    for (const byte of bytes) {
      if (this.#isEscaped) this.#isEscaped = false;
      else if (this.#isInText) {
        if (byte === QUOTE) this.#isInText = false;
        else if (byte === BACKSLASH) this.#isEscaped = true;
      } else this.#count(byte);
    }
    if (this.#partCount > MAX_PARTS) return invalid("request", `has more than ${MAX_PARTS} names and items`);
    return this.#depth > MAX_DEPTH ? invalid("request", `is nested deeper than ${MAX_DEPTH}`) : undefined;
  }

  #count(byte: number): void {
    switch (byte) {
      case QUOTE:
        this.#isInText = true;
        break;
      case COMMA:
      case COLON:
        this.#partCount += 1;
        break;
      case OPEN_LIST:
      case OPEN_OBJECT:
        this.#depth += 1;
        break;
      case CLOSE_LIST:
      case CLOSE_OBJECT:
        // What was too deep stays so.
        if (this.#depth <= MAX_DEPTH) this.#depth -= 1;
    }
  }
}

/** Of texts of a stream, each behind a flag byte and its length. Compressed ones are passed over. */
export class EnvelopedShape {
  readonly #prefix = new Uint8Array(PREFIX_BYTES);
  #prefixBytes = 0;
  /** Of the text that is coming. */
  #leftBytes = 0;
  #shape = new JsonShape();

  /** As `JsonShape`. */
  look(bytes: Uint8Array): WaymarkError | undefined {
    let fault: WaymarkError | undefined;
    for (let at = 0; at < bytes.length && fault === undefined; ) {
      if (this.#leftBytes === 0) {
        this.#prefix[this.#prefixBytes] = bytes[at] ?? 0;
        at += 1;
        this.#prefixBytes = (this.#prefixBytes + 1) % PREFIX_BYTES;
        if (this.#prefixBytes !== 0) continue;
        this.#leftBytes = sizeIn(this.#prefix);
        this.#shape = new JsonShape();
      } else {
        const part = bytes.subarray(at, at + this.#leftBytes);
        at += part.length;
        this.#leftBytes -= part.length;
        if (((this.#prefix[0] ?? 0) & COMPRESSED) === 0) fault = this.#shape.look(part);
      }
    }
    return fault;
  }
}
