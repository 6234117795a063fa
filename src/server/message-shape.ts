/** How a request in protobuf is built, seen before it is decoded (`request-shape.ts`). It reads as protobuf-es does, whatever is wrong with the bytes. */
import type { WaymarkError } from "../lib/errors.ts";
import type { FieldPlan, MessagePlan, Reading } from "../services/request-plan.ts";
import { crowded, type Inside, type Shape, Surplus, surplusFields } from "./request-shape.ts";

/** Wire types. */
const WIRE = { VARINT: 0, FIXED64: 1, BYTES: 2, GROUP: 3, GROUP_END: 4, FIXED32: 5 } as const;

/** Bytes of a varint of 64 bits; the decoder reads no more. */
const MAX_VARINT_BYTES = 10;
/** As deep as the decoder goes. */
const MAX_DEPTH = 100;

/** A message that is being read. */
interface Level extends Inside {
  readonly plan: MessagePlan;
  /** Where it ends, in bytes from the beginning of the request. */
  readonly end: number;
  /** Items of its lists, by the place of the list among its fields. */
  readonly counts: number[];
  singleCount: number;
}

/** What the next bytes are. */
type Next = "tag" | "length" | "value" | "skipped" | "packed";

/** Of one request. */
export class MessageShape implements Shape {
  readonly #surplus = new Surplus();
  /** The messages that are being read, the outermost first, and the last of them. */
  readonly #levels: Level[];
  #level: Level;
  #next: Next = "tag";
  /** Of all pieces before. */
  #seenBytes = 0;
  #varint = 0;
  #varintBytes = 0;
  /** Of what is skipped, and of a list without tags. */
  #leftBytes = 0;
  /** The field whose length comes next; undefined for one that the message does not have. */
  #field: FieldPlan | undefined;
  #isPacked = false;
  /** Groups that are open. All that is in them is skipped. */
  #groups = 0;
  /** The decoder refuses the bytes here, and what comes after them is never decoded. */
  #isOver = false;

  constructor(plan: MessagePlan) {
    this.#level = newLevel(plan, Number.POSITIVE_INFINITY);
    this.#levels = [this.#level];
  }

  look(bytes: Uint8Array): WaymarkError | undefined {
    let fault: WaymarkError | undefined;
    for (let at = 0; at < bytes.length && fault === undefined && !this.#isOver; ) {
      if (this.#next === "skipped") {
        const count = Math.min(this.#leftBytes, bytes.length - at);
        at += count;
        this.#leftBytes -= count;
        if (this.#leftBytes === 0) this.#ended(this.#seenBytes + at);
      } else if (this.#next === "packed") {
        const byte = bytes[at] ?? 0;
        at += 1;
        if (this.#leftBytes > 0) this.#leftBytes -= 1;
        if (byte < 128) {
          fault = this.#counted(this.#field);
          if (this.#leftBytes === 0) this.#ended(this.#seenBytes + at);
        }
      } else {
        const byte = bytes[at] ?? 0;
        at += 1;
        if (byte < 128 && this.#varintBytes === 0) {
          fault = this.#varintCame(byte, this.#seenBytes + at);
        } else if (this.#tookVarint(byte)) {
          const value = this.#varint >>> 0;
          this.#varint = 0;
          this.#varintBytes = 0;
          fault = this.#varintCame(value, this.#seenBytes + at);
        }
      }
    }
    this.#seenBytes += bytes.length;
    return fault;
  }

  /** One byte more of a varint, of which the low 32 bits are kept; whether it is whole. */
  #tookVarint(byte: number): boolean {
    if (this.#varintBytes < 5) this.#varint |= (byte & 127) << (7 * this.#varintBytes);
    this.#varintBytes += 1;
    if (byte < 128) return true;
    // The decoder skips a varint of a field that there is not, however long it is.
    const isSkipped = this.#next === "value" && this.#field === undefined;
    if (this.#varintBytes === MAX_VARINT_BYTES && !isSkipped) this.#isOver = true;
    return false;
  }

  #varintCame(value: number, at: number): WaymarkError | undefined {
    if (this.#next === "tag") return this.#tagCame(value >>> 3, value & 7, at);
    if (this.#next === "length") return this.#lengthCame(value, at);
    this.#ended(at);
    return undefined;
  }

  #tagCame(number: number, wire: number, at: number): WaymarkError | undefined {
    const level = this.#level;
    if (number === 0 || wire > WIRE.FIXED32) {
      this.#isOver = true;
      return undefined;
    }
    this.#field = this.#groups > 0 || number >= level.plan.byNumber.length ? undefined : level.plan.byNumber[number];
    this.#isPacked = false;
    if (this.#field === undefined) return this.#unknownCame(wire, level, at);
    const { shape, reading } = this.#field;
    if (shape === "single") {
      this.#read(reading);
      return this.#oneMore(level);
    }
    this.#isPacked = wire === WIRE.BYTES && reading !== "bytes" && reading !== "message";
    this.#read(this.#isPacked ? "bytes" : reading);
    return this.#isPacked ? undefined : this.#counted(this.#field);
  }

  /** A field that the message does not have, or one in such a group. */
  #unknownCame(wire: number, level: Level, at: number): WaymarkError | undefined {
    switch (wire) {
      case WIRE.GROUP:
        this.#groups += 1;
        break;
      case WIRE.GROUP_END:
        this.#groups -= 1;
        if (this.#groups < 0) this.#isOver = true;
        else this.#ended(at);
        return undefined;
      case WIRE.FIXED32:
        this.#read("fixed32");
        break;
      case WIRE.FIXED64:
        this.#read("fixed64");
        break;
      case WIRE.BYTES:
        this.#read("bytes");
        break;
      default:
        this.#read("varint");
    }
    return this.#oneMore(level);
  }

  #read(reading: Reading): void {
    switch (reading) {
      case "varint":
        this.#next = "value";
        return;
      case "fixed32":
        this.#skip(4);
        return;
      case "fixed64":
        this.#skip(8);
        return;
      case "bytes":
      case "message":
        this.#next = "length";
    }
  }

  #skip(count: number): void {
    this.#leftBytes = count;
    this.#next = "skipped";
  }

  #lengthCame(length: number, at: number): WaymarkError | undefined {
    const field = this.#field;
    if (field?.message !== undefined) {
      if (this.#levels.length > MAX_DEPTH) this.#isOver = true;
      const index = (this.#level.counts[field.place] ?? 0) - 1;
      this.#level = newLevel(field.message(), at + length, field, index);
      this.#levels.push(this.#level);
      this.#ended(at);
    } else if (length === 0) this.#ended(at);
    else if (!this.#isPacked || field === undefined) this.#skip(length);
    else if (field.reading === "varint") {
      this.#leftBytes = length;
      this.#next = "packed";
    } else {
      const itemBytes = field.reading === "fixed32" ? 4 : 8;
      const count = Math.ceil(length / itemBytes);
      this.#skip(count * itemBytes);
      for (let i = 0; i < count; i++) {
        const fault = this.#counted(field);
        if (fault !== undefined) return fault;
      }
    }
    return undefined;
  }

  /** A value ended, and with it all messages that end here. */
  #ended(at: number): void {
    this.#next = "tag";
    if (this.#groups > 0) return;
    while (at >= this.#level.end) {
      this.#levels.pop();
      this.#level = this.#levels.at(-1) ?? this.#level;
    }
  }

  #oneMore(level: Level): WaymarkError | undefined {
    level.singleCount += 1;
    return level.singleCount > level.plan.singleCount && this.#surplus.add() ? surplusFields() : undefined;
  }

  #counted(field: FieldPlan | undefined): WaymarkError | undefined {
    if (field === undefined) return undefined;
    const { counts } = this.#level;
    const count = (counts[field.place] ?? 0) + 1;
    counts[field.place] = count;
    return count > field.most && this.#surplus.add() ? crowded(this.#levels, field) : undefined;
  }
}

function newLevel(plan: MessagePlan, end: number, field?: FieldPlan, index = 0): Level {
  return { plan, field, index, end, counts: [], singleCount: 0 };
}
