/**
 * How a request is built, seen before it is decoded: a decoder takes seconds of one turn for two million empty items, which the rules of the
 * contract refuse only then. What is a little beyond the rules is decoded all the same, so that its refusal names all faults.
 */
import { PREFIX_BYTES, sizeIn } from "../grpc/wire/framing.ts";
import { invalid, type WaymarkError } from "../lib/errors.ts";
import type { FieldPlan } from "../services/request-plan.ts";

/** Of one request, piece by piece. */
export interface Shape {
  /** Looks at the next bytes; returns why the request is not decoded, once it is known. O(bytes). */
  look(bytes: Uint8Array): WaymarkError | undefined;
}

/** The flag before a message of a stream. */
const COMPRESSED = 1;

/** Of messages of a stream, each behind a flag byte and its length. Compressed ones are passed over. */
export class EnvelopedShape implements Shape {
  readonly #newShape: () => Shape;
  readonly #prefix = new Uint8Array(PREFIX_BYTES);
  #prefixBytes = 0;
  /** Of the message that is coming. */
  #leftBytes = 0;
  #shape: Shape;

  constructor(newShape: () => Shape) {
    this.#newShape = newShape;
    this.#shape = newShape();
  }

  look(bytes: Uint8Array): WaymarkError | undefined {
    let fault: WaymarkError | undefined;
    for (let at = 0; at < bytes.length && fault === undefined; ) {
      if (this.#leftBytes === 0) {
        this.#prefix[this.#prefixBytes] = bytes[at] ?? 0;
        at += 1;
        this.#prefixBytes = (this.#prefixBytes + 1) % PREFIX_BYTES;
        if (this.#prefixBytes !== 0) continue;
        this.#leftBytes = sizeIn(this.#prefix);
        this.#shape = this.#newShape();
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

/** Decoding as many more items takes a hundredth of a second. */
const MAX_SURPLUS = 10_000;

/** Counts what a request has beyond the bounds of its lists, and fields that it does not have or has already. */
export class Surplus {
  #count = 0;

  /** Whether that is too much. */
  add(): boolean {
    this.#count += 1;
    return this.#count > MAX_SURPLUS;
  }
}

export function surplusFields(): WaymarkError {
  return invalid("request", `has more than ${MAX_SURPLUS} fields beside those of its type`);
}

/** The value of a field, as shapes hold it while they are inside. */
export interface Inside {
  readonly field: FieldPlan | undefined;
  /** Its place among the items of that field. */
  readonly index: number;
}

/** Refuses the list of this name that is inside all these. */
export function crowded(around: readonly Inside[], { name, rule }: FieldPlan): WaymarkError {
  const parts = around.flatMap(({ field, index }) =>
    field === undefined ? [] : [field.shape === "single" ? field.name : `${field.name}[${index}]`],
  );
  return invalid([...parts, name].join("."), rule);
}
