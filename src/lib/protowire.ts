/**
 * Protobuf's wire format for hot paths: writes at an offset, and reads with every bound checked (https://protobuf.dev/programming-guides/encoding/).
 * Reading can fail only by throwing a WaymarkError.
 */
import { invalid, WaymarkError } from "./errors.ts";

/** Wire types. Groups (3, 4) are rejected, because no version of Waymark has ever written one. */
export const WIRE = { VARINT: 0, FIXED64: 1, BYTES: 2, FIXED32: 5 } as const;
export type WireType = (typeof WIRE)[keyof typeof WIRE];

/** A field's tag as a number, for `writeVarint`. */
export function tagOf(field: number, wire: WireType): number {
  return field * 8 + wire;
}

const TWO_31 = 2 ** 31;
const TWO_32 = 2 ** 32;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const eightBytes = new Uint8Array(8);
const eightView = new DataView(eightBytes.buffer);

/** Size of the buffer that is shared by small arrays, as with `Buffer.allocUnsafe`. The buffer is zeroed, so that runs are repeatable. */
const POOL_BYTES = 65_536;
/** An array larger than this has its own buffer. */
const MAX_POOLED_BYTES = 8192;

let pool = new ArrayBuffer(POOL_BYTES);
let pooled = 0;

/**
 * Zeroed bytes for short-term use, because an array that is kept also keeps its shared buffer of 64 KiB in memory. A call costs 30 ns, whereas `new
 * Uint8Array` of 150 bytes costs 500 ns (Node 24).
 */
export function takeBytes(sizeBytes: number): Uint8Array {
  if (sizeBytes > MAX_POOLED_BYTES) return new Uint8Array(sizeBytes);
  if (pooled + sizeBytes > POOL_BYTES) {
    pool = new ArrayBuffer(POOL_BYTES);
    pooled = 0;
  }
  const bytes = new Uint8Array(pool, pooled, sizeBytes);
  pooled += sizeBytes;
  return bytes;
}

/** Encoded size of a varint, where `value` is a safe integer ≥ 0. */
export function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 128; rest = Math.floor(rest / 128)) size++;
  return size;
}

/** Writes a safe integer ≥ 0. Returns the offset after the varint. */
export function writeVarint(out: Uint8Array, at: number, value: number): number {
  let rest = value;
  while (rest >= TWO_32) {
    out[at++] = (rest % 128) | 128;
    rest = Math.floor(rest / 128);
  }
  while (rest >= 128) {
    out[at++] = (rest & 127) | 128;
    rest >>>= 7;
  }
  out[at++] = rest;
  return at;
}

/** Writes 0 ≤ value < 2^64. Returns the offset after it. */
export function writeVarint64(out: Uint8Array, at: number, value: bigint): number {
  let rest = value;
  while (rest >= 128n) {
    out[at++] = Number(rest & 127n) | 128;
    rest >>= 7n;
  }
  out[at++] = Number(rest);
  return at;
}

/** Writes only the bytes, without a tag or length. Returns the offset after them. */
export function writeBytes(out: Uint8Array, at: number, bytes: Uint8Array): number {
  // HOT: the bytes are mostly empty, and the call of `set` alone costs as much as a field (bench `versions`, with keys that are added and
  // removed).
  if (bytes.length > 0) out.set(bytes, at);
  return at + bytes.length;
}

/** Writes 8 bytes, little-endian. Returns the offset after them. */
export function writeDouble(out: Uint8Array, at: number, value: number): number {
  eightView.setFloat64(0, value, true);
  for (let i = 0; i < 8; i++) out[at + i] = eightBytes[i] ?? 0;
  return at + 8;
}

/** Size of a text in UTF-8. A lone surrogate is counted as the three bytes of U+FFFD. */
export function utf8Size(text: string): number {
  let size = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    if (unit < 0x800) size += 1;
    else if (unit >= 0xd800 && unit < 0xdc00 && isLowSurrogate(text, i + 1)) {
      size += 2;
      i++;
    } else size += 2;
  }
  return size;
}

function isLowSurrogate(text: string, at: number): boolean {
  const unit = text.charCodeAt(at);
  return unit >= 0xdc00 && unit < 0xe000;
}

/** Writes the length and the text as UTF-8, without a tag. Returns the offset after it. It needs space for `5 + 3 * text.length` bytes. */
export function writeText(out: Uint8Array, at: number, text: string): number {
  const length = text.length;
  let to = writeVarint(out, at, length);
  // HOT: names are ASCII and short. encodeInto costs about 100 ns per call, whereas this loop costs 1 ns per character (bench/codec.ts).
  for (let i = 0; i < length; i++) {
    const unit = text.charCodeAt(i);
    if (unit >= 0x80) return writeUtf8(out, at, text);
    out[to++] = unit;
  }
  return to;
}

function writeUtf8(out: Uint8Array, at: number, text: string): number {
  const to = writeVarint(out, at, utf8Size(text));
  return to + encoder.encodeInto(text, out.subarray(to)).written;
}

/** Opens a length-delimited field of unknown size after its tag has been written. Returns the start of its content. */
export function openLength(at: number): number {
  return at + 1;
}

/**
 * Closes a field that `openLength` opened. Writes the length in front of the content, and moves the content if the length needs more than one byte.
 */
export function closeLength(out: Uint8Array, start: number, end: number): number {
  const size = end - start;
  if (size < 128) {
    out[start - 1] = size;
    return end;
  }
  const extra = varintSize(size) - 1;
  out.copyWithin(start + extra, start, end);
  writeVarint(out, start - 1, size);
  return end + extra;
}

// Complete message fields, as written and read by generated code. As in proto3, empty, zero, and false values are not written.

export function writeTextField(out: Uint8Array, at: number, tag: number, text: string): number {
  return text === "" ? at : writeText(out, writeVarint(out, at, tag), text);
}

export function writeNumberField(out: Uint8Array, at: number, tag: number, value: number): number {
  return value === 0 ? at : writeVarint(out, writeVarint(out, at, tag), value);
}

export function writeBigField(out: Uint8Array, at: number, tag: number, value: bigint): number {
  return value === 0n ? at : writeVarint64(out, writeVarint(out, at, tag), value);
}

/** Writes the field even if there are no bytes. */
export function writeBytesField(out: Uint8Array, at: number, tag: number, bytes: Uint8Array): number {
  return writeBytes(out, writeVarint(out, writeVarint(out, at, tag), bytes.length), bytes);
}

export function writeFixed64Field(out: Uint8Array, at: number, tag: number, value: bigint): number {
  return value === 0n ? at : writeFixed64(out, writeVarint(out, at, tag), value);
}

function writeFixed64(out: Uint8Array, at: number, value: bigint): number {
  return writeFixed32(out, writeFixed32(out, at, Number(value & 0xffff_ffffn)), Number(value >> 32n));
}

function writeFixed32(out: Uint8Array, at: number, value: number): number {
  for (let i = 0; i < 4; i++) out[at + i] = value >>> (8 * i);
  return at + 4;
}

export function writeDoubleField(out: Uint8Array, at: number, tag: number, value: number): number {
  // In protobuf, minus zero is different from the default zero.
  return Object.is(value, 0) ? at : writeDouble(out, writeVarint(out, at, tag), value);
}

export function writeTexts(out: Uint8Array, start: number, tag: number, texts: readonly string[]): number {
  let at = start;
  for (let i = 0; i < texts.length; i++) at = writeText(out, writeVarint(out, at, tag), texts[i] ?? "");
  return at;
}

export function writePackedField(out: Uint8Array, start: number, tag: number, values: readonly number[]): number {
  if (values.length === 0) return start;
  const body = openLength(writeVarint(out, start, tag));
  let at = body;
  for (let i = 0; i < values.length; i++) at = writeVarint(out, at, values[i] ?? 0);
  return closeLength(out, body, at);
}

export function writePackedFixed32Field(out: Uint8Array, start: number, tag: number, values: readonly number[]): number {
  if (values.length === 0) return start;
  let at = writeVarint(out, writeVarint(out, start, tag), 4 * values.length);
  for (let i = 0; i < values.length; i++) at = writeFixed32(out, at, values[i] ?? 0);
  return at;
}

export function writePackedFixed64Field(out: Uint8Array, start: number, tag: number, values: readonly bigint[]): number {
  if (values.length === 0) return start;
  let at = writeVarint(out, writeVarint(out, start, tag), 8 * values.length);
  for (let i = 0; i < values.length; i++) at = writeFixed64(out, at, values[i] ?? 0n);
  return at;
}

const KEY_TAG = tagOf(1, WIRE.BYTES);
const VALUE_TAG = tagOf(2, WIRE.BYTES);

/** Writes pairs ordered by key in code-unit order, so that equal maps have equal bytes. */
export function writePairs(out: Uint8Array, start: number, tag: number, pairs: Readonly<Record<string, string>>): number {
  const keys = Object.keys(pairs);
  if (keys.length > 1) keys.sort();
  let at = start;
  for (let i = 0; i < keys.length; i++) {
    const key = keys[i] ?? "";
    const body = openLength(writeVarint(out, at, tag));
    at = writeText(out, writeVarint(out, body, KEY_TAG), key);
    at = closeLength(out, body, writeText(out, writeVarint(out, at, VALUE_TAG), pairs[key] ?? ""));
  }
  return at;
}

/** A Timestamp or a Duration. */
export interface TimeFields {
  readonly seconds: bigint | number;
  readonly nanos: number;
}

/** The time for a message that has none. */
export const NO_TIME: TimeFields = { seconds: 0, nanos: 0 };

export function isNoTime({ seconds, nanos }: TimeFields): boolean {
  return Number(seconds) === 0 && nanos === 0;
}

const SECONDS_TAG = tagOf(1, WIRE.VARINT);
const NANOS_TAG = tagOf(2, WIRE.VARINT);

/** Whole milliseconds of a Timestamp or Duration, rounded down. */
export function timeMs({ seconds, nanos }: TimeFields): number {
  return Number(seconds) * 1000 + Math.floor(nanos / 1_000_000);
}

/** The reverse of `timeMs`. It keeps fractions of a millisecond. */
export function timeOf(ms: number): TimeFields {
  const seconds = Math.floor(ms / 1000);
  return { seconds, nanos: Math.round((ms - seconds * 1000) * 1_000_000) };
}

export function writeTimeField(out: Uint8Array, start: number, tag: number, { seconds, nanos }: TimeFields): number {
  const body = openLength(writeVarint(out, start, tag));
  const at = writeNumberField(out, body, SECONDS_TAG, Number(seconds));
  return closeLength(out, body, writeNumberField(out, at, NANOS_TAG, nanos));
}

/** An upper bound of the encoded size of a list of texts. */
export function textsRoom(texts: readonly string[]): number {
  let room = 0;
  for (let i = 0; i < texts.length; i++) room += 10 + 3 * (texts[i]?.length ?? 0);
  return room;
}

/** An upper bound of the encoded size of a list of byte strings. */
export function bytesRoom(list: readonly Uint8Array[]): number {
  let room = 0;
  for (let i = 0; i < list.length; i++) room += 10 + (list[i]?.length ?? 0);
  return room;
}

/** An upper bound of the encoded size of a map of texts. */
export function pairsRoom(pairs: Readonly<Record<string, string>>): number {
  let room = 0;
  for (const key in pairs) room += 24 + 3 * (key.length + (pairs[key]?.length ?? 0));
  return room;
}

function malformed(what: string, at: number): WaymarkError {
  return new WaymarkError("invalid_argument", `malformed protobuf: ${what} at byte ${at}`);
}

/**
 * Reads one message, and reads nested messages with `enter` and `leave`. Throws `invalid_argument` for truncated, oversized or malformed bytes. It
 * never reads outside its bytes.
 */
export class WireReader {
  readonly bytes: Uint8Array;
  /** Offset of the next byte to read. */
  at: number;
  /** End of the current message. */
  end: number;
  /**
   * Whether `varint` returned a number of 2^31 or more. Such a number is returned unchanged, even for fields of which protobuf uses only the low 32
   * bits.
   */
  hasWide = false;

  constructor(bytes: Uint8Array, at = 0, end = bytes.length) {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
  }

  isDone(): boolean {
    return this.at >= this.end;
  }

  /** The next tag, which is field × 8 + wire type. */
  tag(): number {
    const start = this.at;
    const tag = this.varint();
    if (tag < 8 || tag >= TWO_32) throw malformed(`invalid tag ${tag}`, start);
    return tag;
  }

  /** A varint of at most 2^53 - 1. */
  varint(): number {
    const { bytes, end } = this;
    let value = 0;
    let scale = 1;
    for (let at = this.at; at < end; at++) {
      const byte = bytes[at] ?? 0;
      value += (byte & 127) * scale;
      if (byte < 128) {
        if (value >= TWO_31) {
          // Eight bytes with seven bits each can exceed 2^53. The sum is then inexact, but never becomes small again.
          if (value > Number.MAX_SAFE_INTEGER) throw malformed("varint above 2^53", this.at);
          this.hasWide = true;
        }
        this.at = at + 1;
        return value;
      }
      scale *= 128;
      if (scale > 2 ** 56) break;
    }
    if (this.at + 8 < end) throw malformed("varint above 2^53", this.at);
    throw malformed("truncated varint", this.at);
  }

  /** A varint of any 64-bit value as a number. It is exact up to 2^53, and never small for larger values, so that rules reject them. */
  number(): number {
    const { bytes, end } = this;
    let value = 0;
    let scale = 1;
    // HOT: handles eight bytes of seven bits each, because a vector has thousands of these, and a bigint costs ten times as much.
    for (let at = this.at; at < end && scale < 2 ** 56; at++) {
      const byte = bytes[at] ?? 0;
      value += (byte & 127) * scale;
      if (byte < 128) {
        this.at = at + 1;
        return value;
      }
      scale *= 128;
    }
    return Number(this.varint64());
  }

  /** A varint of any 64-bit value, read as unsigned. */
  varint64(): bigint {
    const start = this.at;
    let low = 0;
    let high = 0;
    for (let i = 0; i < 10; i++) {
      if (this.at >= this.end) throw malformed("truncated varint", start);
      const byte = this.bytes[this.at++] ?? 0;
      const bits = byte & 127;
      if (i < 4) low += bits * 2 ** (7 * i);
      else if (i === 4) {
        low += (bits & 15) * 2 ** 28;
        high = bits >>> 4;
      } else high += bits * 2 ** (7 * i - 32);
      if (byte < 128) {
        if (high >= TWO_32) throw malformed("varint above 2^64", start);
        return (BigInt(high) << 32n) | BigInt(low);
      }
    }
    throw malformed("varint longer than 10 bytes", start);
  }

  fixed32(): number {
    const start = this.#take(4);
    let value = 0;
    for (let i = 3; i >= 0; i--) value = value * 256 + (this.bytes[start + i] ?? 0);
    return value;
  }

  fixed64(): bigint {
    const low = this.fixed32();
    return (BigInt(this.fixed32()) << 32n) | BigInt(low);
  }

  double(): number {
    const start = this.#take(8);
    for (let i = 0; i < 8; i++) eightBytes[i] = this.bytes[start + i] ?? 0;
    return eightView.getFloat64(0, true);
  }

  /** The bytes of a length-delimited field, without a copy. */
  view(): Uint8Array {
    const size = this.varint();
    const start = this.#take(size);
    return this.bytes.subarray(start, start + size);
  }

  /** A length-delimited field as text. Rejects bytes that are not UTF-8. */
  text(): string {
    const size = this.varint();
    const start = this.#take(size);
    const end = start + size;
    const known = size <= MAX_SHORT_BYTES ? shortText(this.bytes, start, end) : undefined;
    if (known !== undefined) return known;
    try {
      return decoder.decode(this.bytes.subarray(start, end));
    } catch (cause) {
      throw new WaymarkError("invalid_argument", `malformed protobuf: text is not UTF-8 at byte ${start}`, { cause });
    }
  }

  /** Enters a nested message. Returns the outer end, which `leave` needs. */
  enter(): number {
    const size = this.varint();
    const start = this.#take(size);
    const outer = this.end;
    this.at = start;
    this.end = start + size;
    return outer;
  }

  leave(outerEnd: number): void {
    this.at = this.end;
    this.end = outerEnd;
  }

  /** Skips the field whose tag was just read. */
  skip(tag: number): void {
    switch (tag % 8) {
      case WIRE.VARINT:
        // Most varints are one byte and need no bigint.
        if (this.at < this.end && (this.bytes[this.at] ?? 0) < 128) this.at += 1;
        else this.varint64();
        return;
      case WIRE.FIXED64:
        this.#take(8);
        return;
      case WIRE.BYTES:
        this.#take(this.varint());
        return;
      case WIRE.FIXED32:
        this.#take(4);
        return;
      default:
        throw malformed(`unsupported wire type ${tag % 8}`, this.at);
    }
  }

  /**
   * Skips a field of a message whose fields 1 to `lastKnown` this version knows. A known field with another wire type is rejected, because readers
   * disagree on its meaning, and stored bytes must have only one meaning.
   */
  skipUnknown(tag: number, lastKnown: number): void {
    if (tag < (lastKnown + 1) * 8) throw malformed(`field ${tag >>> 3} has an unexpected wire type: ${tag % 8}`, this.at);
    this.skip(tag);
  }

  #take(size: number): number {
    const start = this.at;
    if (size > this.end - start) throw malformed(`length ${size} exceeds the remaining ${this.end - start} bytes`, start);
    this.at = start + size;
    return start;
  }
}

/** Reads a Timestamp or a Duration. If `isAny` is set, a number that is out of range is read as a very large one, which rules then reject. */
export function readTime(reader: WireReader, isAny = false): TimeFields {
  let seconds = 0;
  let nanos = 0;
  const outer = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === SECONDS_TAG) seconds = isAny ? reader.number() : reader.varint();
    else if (tag === NANOS_TAG) nanos = isAny ? reader.number() : reader.varint();
    else reader.skipUnknown(tag, 2);
  }
  reader.leave(outer);
  return { seconds, nanos };
}

/** Reads a key-value pair of a map into `into`. */
export function readPair(reader: WireReader, into: Record<string, string>): void {
  let key = "";
  let value = "";
  const outer = reader.enter();
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag === KEY_TAG) key = reader.text();
    else if (tag === VALUE_TAG) value = reader.text();
    else reader.skipUnknown(tag, 2);
  }
  reader.leave(outer);
  // `__proto__` is a valid key, but it would be lost in a plain assignment.
  if (key === "__proto__") Object.defineProperty(into, key, { value, enumerable: true, configurable: true, writable: true });
  else into[key] = value;
}

/** The value of a list that has no items yet. `grown` replaces it by another list. */
export const NO_ITEMS: never[] = [];

/** Returns a list with one more item. The given list must not be used afterwards. */
// HOT: on the first `push`, V8 allocates space for 17 items, but most lists of an entry have one or two items (bench/register.ts).
export function grown<T>(items: T[], item: T): T[] {
  const [first] = items;
  if (items.length === 0) return [item];
  if (items.length === 1 && first !== undefined) return [first, item];
  items.push(item);
  return items;
}

/** Rejects another item if there are already `max` items. */
export function mayGrow(count: number, max: number, field: string): void {
  if (count >= max) throw invalid(field, `has more than ${max} items`);
}

export function readPacked(reader: WireReader, into: number[]): void {
  const outer = reader.enter();
  while (!reader.isDone()) into.push(reader.varint());
  reader.leave(outer);
}

/** Rejects a second singular message, because protobuf would merge the two, and stored bytes must have only one meaning. */
export function once(have: unknown, field: string): void {
  if (have !== undefined) throw misplaced(`${field} appears twice`);
}

export function misplaced(what: string): WaymarkError {
  return new WaymarkError("invalid_argument", `malformed message: ${what}`);
}

/** Whether a message contains the field at its top level. The function only scans the message, without decoding it. Throws like WireReader. */
export function hasField(bytes: Uint8Array, field: number): boolean {
  const reader = new WireReader(bytes);
  while (!reader.isDone()) {
    const tag = reader.tag();
    if (tag >>> 3 === field) return true;
    reader.skip(tag);
  }
  return false;
}

/** Longest text that `shortText` keeps, for example the ID of a node. */
const MAX_SHORT_BYTES = 24;
/** Longest text that `shortText` creates itself. From 13 characters on, V8 would create a rope instead of a flat string. */
const MAX_JOINED_BYTES = 12;
const SHORT_TEXTS = 1024;
/** The most recent short texts, each at the index that is computed from its bytes. */
const lastTexts: string[] = Array.from({ length: SHORT_TEXTS }, () => "");

/** An ASCII text, or undefined if it has other characters. */
// HOT: a call to TextDecoder costs 105 ns, whereas a step of this loop costs 2 ns. Most short texts are soon read again. Without reuse, a new string
// for each text was a third of the garbage from reading an entry.
function shortText(bytes: Uint8Array, start: number, end: number): string | undefined {
  let hash = 0;
  for (let i = start; i < end; i++) {
    const byte = bytes[i] ?? 0;
    if (byte >= 0x80) return undefined;
    hash = (Math.imul(hash, 31) + byte) | 0;
  }
  const place = (hash ^ (hash >>> 10)) & (SHORT_TEXTS - 1);
  const last = lastTexts[place] ?? "";
  if (isAt(last, bytes, start, end)) return last;
  let text = "";
  if (end - start > MAX_JOINED_BYTES) text = decoder.decode(bytes.subarray(start, end));
  else {
    let i = start;
    for (; i + 4 <= end; i += 4) text += String.fromCharCode(bytes[i] ?? 0, bytes[i + 1] ?? 0, bytes[i + 2] ?? 0, bytes[i + 3] ?? 0);
    for (; i < end; i++) text += ASCII[bytes[i] ?? 0];
  }
  lastTexts[place] = text;
  return text;
}

function isAt(text: string, bytes: Uint8Array, start: number, end: number): boolean {
  if (text.length !== end - start) return false;
  for (let i = start; i < end; i++) if (text.charCodeAt(i - start) !== bytes[i]) return false;
  return true;
}

const ASCII: readonly string[] = Array.from({ length: 128 }, (_, code) => String.fromCharCode(code));
