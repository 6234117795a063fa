/**
 * The operations that a replica sends to its copies, in order. Numbers, strings and bytes are in three separate lists, because this form is the
 * cheapest to send to another thread. A fourth list contains values of other types, which are rare.
 */
import { assert } from "../../lib/errors.ts";

/** The kinds of operation. The fields of each operation are in the order in which `ReplicaFeed` writes them and `ReplicaCopy` reads them. */
export const OP = {
  /** Sets the fields of an origin. */
  ORIGIN: 1,
  /** Installs a record. */
  INSTALL: 2,
  /** Touches a record, because readers may now see another view of its key. */
  TOUCH: 3,
  /** Ends a record without a tombstone. */
  WITHDRAW: 4,
  /** Removes a record completely. */
  DROP: 5,
  /** Assigns a revision without touching a record. */
  PASS: 6,
  /** FORGET forgets an origin; READMIT accepts a forgotten origin again. */
  FORGET: 7,
  READMIT: 8,
  /** Stores a record with its bookkeeping fields while a copy is being made. */
  PLACE: 9,
  /** Completes the copy. */
  START: 10,
  /** A mark that another component writes: the mark's number, followed by that component's values. */
  MARK: 11,
  /** Replaces all records of a key with one record. Only on a resolver. */
  SUPERSEDE: 12,
} as const;

/** A part of a feed. */
export interface ChangeMessage {
  readonly numbers: Float64Array<ArrayBuffer>;
  readonly texts: readonly string[];
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Plain objects; the other thread receives copies. */
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

  /** Approximate size in bytes of everything written since the last `take`. */
  get sizeBytes(): number {
    return this.#sizeBytes + 8 * this.#numbers.length;
  }

  numbers(...numbers: readonly number[]): void {
    for (const number of numbers) this.#numbers.push(number);
  }

  text(text: string): void {
    this.#texts.push(text);
  }

  /** Appends a plain object. The caller must not change the object afterwards. */
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

  /** Returns everything written since the last call. */
  take(): ChangeMessage {
    const lists = { texts: this.#texts, values: this.#values };
    const message = { numbers: Float64Array.from(this.#numbers), bytes: this.#bytes.slice(0, this.#sizeBytes), ...lists };
    this.#numbers = [];
    this.#texts = [];
    this.#values = [];
    this.#sizeBytes = 0;
    return message;
  }
}

export class MessageBufferReader {
  readonly #message: ChangeMessage;
  #number = 0;
  #text = 0;
  #value = 0;
  #byte = 0;

  constructor(message: ChangeMessage) {
    this.#message = message;
  }

  get isDone(): boolean {
    return this.#number === this.#message.numbers.length;
  }

  number(): number {
    const number = this.#message.numbers[this.#number++];
    assert(number !== undefined, "the feed message has too few numbers");
    return number;
  }

  text(): string {
    const text = this.#message.texts[this.#text++];
    assert(text !== undefined, "the feed message has too few strings");
    return text;
  }

  value(): unknown {
    assert(this.#value < this.#message.values.length, "the feed message has too few values");
    return this.#message.values[this.#value++];
  }

  /** Returns a view of the bytes, not a copy. */
  bytes(): Uint8Array {
    const from = this.#byte;
    this.#byte += this.number();
    return this.#message.bytes.subarray(from, this.#byte);
  }
}
