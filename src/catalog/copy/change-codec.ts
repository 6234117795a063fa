/**
 * What a replica says to its copies, in order. Numbers, texts and bytes lie in three lists, because a message to another thread moves such
 * lists at the least cost. A fourth has what is rare and has another form.
 */
import { assert } from "../../lib/errors.ts";

/** What happened. The fields of each are in the order in which `ReplicaFeed` writes and `ReplicaCopy` reads them. */
export const OP = {
  /** An origin has these fields from now on. */
  ORIGIN: 1,
  /** A record is taken in. */
  INSTALL: 2,
  /** The view of a key may have changed. */
  TOUCH: 3,
  /** A record ended without a record that says so. */
  WITHDRAW: 4,
  /** A record is gone without a trace. */
  DROP: 5,
  /** A revision passed at which no record was touched. */
  PASS: 6,
  /** An origin is forgotten, or was one and is known again. */
  FORGET: 7,
  READMIT: 8,
  /** While a copy is made: a record as it is held. */
  PLACE: 9,
  /** The copy is whole. */
  START: 10,
  /** Something that another room noted here: its number, and what that room writes. */
  MARK: 11,
  /** A record is taken in, in the place of all of its key. Only of a resolver. */
  SUPERSEDE: 12,
} as const;

/** A part of a feed. */
export interface ChangeMessage {
  readonly numbers: Float64Array<ArrayBuffer>;
  readonly texts: readonly string[];
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Plain objects, which another thread gets as equal ones. */
  readonly values: readonly unknown[];
}

const FIRST_BYTES = 4096;

export class MessageBuffer {
  #numbers: number[] = [];
  #texts: string[] = [];
  #values: unknown[] = [];
  #bytes = new Uint8Array(FIRST_BYTES);
  #sizeBytes = 0;

  get isEmpty(): boolean {
    return this.#numbers.length === 0;
  }

  /** Bytes of all that is said since the last `take`, about. */
  get sizeBytes(): number {
    return this.#sizeBytes + 8 * this.#numbers.length;
  }

  numbers(...numbers: readonly number[]): void {
    for (const number of numbers) this.#numbers.push(number);
  }

  text(text: string): void {
    this.#texts.push(text);
  }

  /** A plain object. Nobody may change it any more. */
  value(value: unknown): void {
    this.#values.push(value);
  }

  /** Copies the bytes. */
  bytes(bytes: Uint8Array): void {
    this.#numbers.push(bytes.length);
    const end = this.#sizeBytes + bytes.length;
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(end, 2 * this.#bytes.length));
      larger.set(this.#bytes.subarray(0, this.#sizeBytes));
      this.#bytes = larger;
    }
    this.#bytes.set(bytes, this.#sizeBytes);
    this.#sizeBytes = end;
  }

  /** All that was said since the last call. */
  take(): ChangeMessage {
    const lists = { texts: this.#texts, values: this.#values };
    const said = { numbers: Float64Array.from(this.#numbers), bytes: this.#bytes.slice(0, this.#sizeBytes), ...lists };
    this.#numbers = [];
    this.#texts = [];
    this.#values = [];
    this.#sizeBytes = 0;
    return said;
  }
}

export class MessageBufferReader {
  readonly #said: ChangeMessage;
  #number = 0;
  #text = 0;
  #value = 0;
  #byte = 0;

  constructor(said: ChangeMessage) {
    this.#said = said;
  }

  get isDone(): boolean {
    return this.#number === this.#said.numbers.length;
  }

  number(): number {
    const number = this.#said.numbers[this.#number++];
    assert(number !== undefined, "a feed says more than it holds");
    return number;
  }

  text(): string {
    const text = this.#said.texts[this.#text++];
    assert(text !== undefined, "a feed says more than it holds");
    return text;
  }

  value(): unknown {
    assert(this.#value < this.#said.values.length, "a feed says more than it holds");
    return this.#said.values[this.#value++];
  }

  /** A view. */
  bytes(): Uint8Array {
    const from = this.#byte;
    this.#byte += this.number();
    return this.#said.bytes.subarray(from, this.#byte);
  }
}
