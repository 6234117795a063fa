/**
 * Converts encoded answers to JSON without creating their messages, that is, from bytes to bytes, using protobuf's JSON mapping
 * (https://protobuf.dev/programming-guides/json/). The library converts forms that this program's services do not write.
 */
import { type DescEnum, type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import { tagOf, WIRE, type WireType } from "../protowire.ts";

/**
 * Returns the JSON of an encoded message, or undefined if only the library can convert it. Each character in the text is one byte of UTF-8
 * ("latin1"), because Node writes such a text together with the head of its answer.
 */
export type JsonText = (encoded: Uint8Array) => string | undefined;

/**
 * The outcome of writing a value: not written, in which case the library must convert the message; written as the default of its type; or written as
 * another value.
 */
const LEFT = 0;
const DEFAULT = 1;
const WRITTEN = 2;
type WriteOutcome = typeof LEFT | typeof DEFAULT | typeof WRITTEN;

/** Reads the value at the current position of `input` and writes it. */
type ValueWriter = (input: WireInput, out: JsonOutput) => WriteOutcome;

interface ValuePlan {
  readonly write: ValueWriter;
  readonly wire: WireType;
}

interface FieldPlan extends ValuePlan {
  readonly tag: number;
  /** Index among the fields of its message, ordered by field number. */
  readonly place: number;
  /** `,"name":` */
  readonly label: Uint8Array;
  readonly kind: "single" | "list" | "packed" | "map";
  /** For a map, the function that writes a key. */
  readonly key: ValuePlan | undefined;
  /** Whether the field is left out when it has the default of its type. */
  readonly isImplicit: boolean;
  /** Whether the library would merge a second value with the first one. */
  readonly isMessage: boolean;
  /** The other fields in its oneof, by index. */
  readonly rivals: readonly number[];
}

interface MessagePlan {
  /** It is filled after the plan has been created, because messages may contain themselves. The fields are in the order of their numbers. */
  fields: readonly FieldPlan[];
  byTag: readonly (FieldPlan | undefined)[];
  /** The field numbers. If a field occurs with another wire type, the library must convert the message. */
  numbers: ReadonlySet<number>;
}

/** Highest field number. A table for larger numbers would take too much space. */
const MAX_FIELD_NUMBER = 1_000;

/** JSON size of an answer above which the scratch buffer grows. */
const START_BYTES = 65_536;
/** Largest scratch buffer that is kept for the next answer. */
const MAX_KEPT_BYTES = 1_048_576;

/** The converter for messages of this type. Undefined if the messages may contain a field that only the library can convert. */
export function jsonTextOf(desc: DescMessage): JsonText | undefined {
  const plan = planOf(desc, new Map());
  if (plan === undefined) return undefined;
  return (encoded) => {
    placesTop = 0;
    const input = new WireInput(encoded);
    const out = new JsonOutput();
    const isWhole = writeMessage(input, out, plan, encoded.length) && input.at === encoded.length;
    return out.take(isWhole);
  };
}

/**
 * Bytes, and a position in them. Bytes beyond the end are read as zeros, so a reader must check afterwards whether the position is still within the
 * bytes.
 */
class WireInput {
  readonly bytes: Uint8Array;
  at = 0;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }

  /** Reads a varint. A value above 2^53 loses its last digits. */
  varint(): number {
    const { bytes } = this;
    let byte = bytes[this.at++] ?? 0;
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    for (let scale = 128; ; scale *= 128) {
      byte = bytes[this.at++] ?? 0;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  }

  /** Reads a varint of 64 bits, in two's complement if `isSigned` is set. */
  wide(isSigned: boolean): number | bigint {
    const start = this.at;
    const value = this.varint();
    if (value <= Number.MAX_SAFE_INTEGER) return value;
    let exact = 0n;
    for (let i = this.at - 1; i >= start; i--) exact = exact * 128n + BigInt((this.bytes[i] ?? 0) & 0x7f);
    return isSigned ? BigInt.asIntN(64, exact) : BigInt.asUintN(64, exact);
  }

  /** A view of eight bytes. */
  eight(): DataView {
    const { bytes, at } = this;
    this.at += 8;
    const isInside = this.at <= bytes.length;
    return isInside ? new DataView(bytes.buffer, bytes.byteOffset + at, 8) : new DataView(new ArrayBuffer(8));
  }

  /** The end of the length-delimited value at this position. */
  end(): number {
    const size = this.varint();
    return this.at + size;
  }

  /** Skips a value. Returns false for an unknown wire type. */
  skip(wire: number): boolean {
    if (wire === WIRE.VARINT) this.varint();
    else if (wire === WIRE.FIXED64) this.at += 8;
    else if (wire === WIRE.FIXED32) this.at += 4;
    else if (wire === WIRE.BYTES) this.at = this.end();
    else return false;
    return true;
  }
}

let scratch = Buffer.allocUnsafeSlow(START_BYTES);

/** The JSON written so far. Only one instance is used at a time, because all instances write to the same scratch buffer. */
class JsonOutput {
  at = 0;

  /** The text, or undefined if it is incomplete. */
  take(isWhole: boolean): string | undefined {
    const taken = isWhole ? scratch.toString("latin1", 0, this.at) : undefined;
    if (scratch.length > MAX_KEPT_BYTES) scratch = Buffer.allocUnsafeSlow(START_BYTES);
    return taken;
  }

  byte(value: number): void {
    this.#grow(1);
    scratch[this.at++] = value;
  }

  /** Writes a few constant bytes, starting at index `from`. */
  known(bytes: Uint8Array, from = 0): void {
    const { length } = bytes;
    this.#grow(length);
    const to = scratch;
    let { at } = this;
    for (let i = from; i < length; i++) to[at++] = bytes[i] ?? 0;
    this.at = at;
  }

  ascii(text: string): void {
    this.#grow(text.length);
    this.at += scratch.write(text, this.at, "latin1");
  }

  /** Writes a whole number ≥ 0 with at least `minDigits` digits. */
  digits(value: number, minDigits = 1): void {
    if (value >= 1_000_000_000) {
      this.ascii(String(value));
      return;
    }
    let size = minDigits;
    for (let limit = 10 ** minDigits; value >= limit; limit *= 10) size += 1;
    this.#grow(size);
    let rest = value;
    for (let at = this.at + size - 1; at >= this.at; at--) {
      const tens = Math.floor(rest / 10);
      scratch[at] = ZERO + rest - tens * 10;
      rest = tens;
    }
    this.at += size;
  }

  /** Writes a text from the input, up to `end`, in quotes. */
  // HOT: this is half of the cost of an answer.
  quoted(bytes: Uint8Array, start: number, end: number): void {
    this.#grow(end - start + 2);
    const to = scratch;
    let { at } = this;
    to[at++] = QUOTE;
    for (let i = start; i < end; i++) {
      const byte = bytes[i] ?? 0;
      if (byte < 0x20 || byte === QUOTE || byte === BACKSLASH) {
        this.#escaped(bytes, start, end);
        return;
      }
      to[at++] = byte;
    }
    to[at++] = QUOTE;
    this.at = at;
  }

  #escaped(bytes: Uint8Array, start: number, end: number): void {
    const text = Buffer.from(JSON.stringify(Buffer.from(bytes.buffer, bytes.byteOffset + start, end - start).toString("utf8")));
    this.#grow(text.length);
    text.copy(scratch, this.at);
    this.at += text.length;
  }

  #grow(bytes: number): void {
    if (this.at + bytes <= scratch.length) return;
    const larger = Buffer.allocUnsafeSlow((this.at + bytes) * 2);
    scratch.copy(larger, 0, 0, this.at);
    scratch = larger;
  }
}

const ZERO = 0x30;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const [MINUS, POINT, CAPITAL_Z, SMALL_S] = [0x2d, 0x2e, 0x5a, 0x73];
const [OPEN, CLOSE, OPEN_LIST, CLOSE_LIST] = [0x7b, 0x7d, 0x5b, 0x5d];

/**
 * Writes a message: first finds the position of each field, then writes the fields in order. The last value of a singular field is used, because
 * views append their values to stored entries. Returns whether the message was written.
 */
// HOT: runs for each message inside an answer. bench/query.ts
function writeMessage(input: WireInput, out: JsonOutput, plan: MessagePlan, end: number): boolean {
  const isFound = find(input, plan, end) && writeFound(input, out, plan, end);
  placesTop -= plan.fields.length;
  input.at = end;
  return isFound;
}

function writeFound(input: WireInput, out: JsonOutput, { fields }: MessagePlan, end: number): boolean {
  const base = placesTop - fields.length;
  out.byte(OPEN);
  let isFirst = true;
  for (let place = 0; place < fields.length; place++) {
    const at = places[base + place] ?? 0;
    const field = fields[place];
    if (at === 0 || field === undefined) continue;
    const before = out.at;
    out.known(field.label, isFirst ? 1 : 0);
    input.at = at;
    const outcome = field.kind === "single" ? field.write(input, out) : writeAll(input, out, field, end);
    if (outcome === LEFT) return false;
    if (outcome === DEFAULT && field.isImplicit) out.at = before;
    else isFirst = false;
  }
  out.byte(CLOSE);
  return true;
}

/**
 * For each field, by index, the offset after the tag of its value, or of the first value of a list. 0 if the field is absent. Nested messages use the
 * entries after these.
 */
let places = new Int32Array(256);
let placesTop = 0;

/** Fills the entries of a message, which are the last ones in `places`. Returns false if only the library can convert the message. */
function find(input: WireInput, { fields, byTag, numbers }: MessagePlan, end: number): boolean {
  const base = placesTop;
  placesTop += fields.length;
  if (placesTop > places.length) places = Int32Array.from({ length: placesTop * 2 }, (_, i) => places[i] ?? 0);
  for (let at = base; at < placesTop; at++) places[at] = 0;
  let before: FieldPlan | undefined;
  while (input.at < end) {
    const tag = input.varint();
    const field = byTag[tag];
    if (field === undefined) {
      if (numbers.has(Math.floor(tag / 8))) return false;
    } else {
      const place = base + field.place;
      const isNew = places[place] === 0;
      if (field.kind === "single") {
        if (field.isMessage && !isNew) return false;
        for (const rival of field.rivals) places[base + rival] = 0;
      } else if (!isNew && (field !== before || field.kind === "packed")) return false;
      if (isNew || field.kind === "single") places[place] = input.at;
    }
    before = field;
    if (!input.skip(tag & 7)) return false;
  }
  return input.at === end;
}

/** Writes all values of a repeated field, which must be consecutive. */
function writeAll(input: WireInput, out: JsonOutput, field: FieldPlan, end: number): WriteOutcome {
  if (field.kind === "packed") return writePacked(input, out, field);
  const isList = field.kind === "list";
  const keys: string[] = [];
  out.byte(isList ? OPEN_LIST : OPEN);
  for (let isFirst = true; ; isFirst = false) {
    if (!isFirst) out.byte(COMMA);
    if (isList ? field.write(input, out) === LEFT : !writePair(input, out, field, keys)) return LEFT;
    const { at } = input;
    if (at >= end || input.varint() !== field.tag) {
      input.at = at;
      break;
    }
  }
  out.byte(isList ? CLOSE_LIST : CLOSE);
  return WRITTEN;
}

function writePacked(input: WireInput, out: JsonOutput, field: FieldPlan): WriteOutcome {
  const end = input.end();
  if (input.at === end) return LEFT;
  out.byte(OPEN_LIST);
  for (let isFirst = true; input.at < end; isFirst = false) {
    if (!isFirst) out.byte(COMMA);
    if (field.write(input, out) === LEFT) return LEFT;
  }
  out.byte(CLOSE_LIST);
  return input.at === end ? WRITTEN : LEFT;
}

/**
 * Writes one pair of a map, which must be complete and start with its key, as every encoder writes it. If a key is repeated, the library would use
 * the last value.
 */
function writePair(input: WireInput, out: JsonOutput, { key, write, wire }: FieldPlan, keys: string[]): boolean {
  const end = input.end();
  if (key === undefined || input.varint() !== 8 + key.wire) return false;
  const before = out.at;
  if (key.write(input, out) === LEFT) return false;
  const text = scratch.toString("latin1", before, out.at);
  if (keys.includes(text)) return false;
  keys.push(text);
  out.byte(COLON);
  return input.varint() === 16 + wire && write(input, out) !== LEFT && input.at === end;
}

function planOf(desc: DescMessage, known: Map<string, MessagePlan>): MessagePlan | undefined {
  const before = known.get(desc.typeName);
  if (before !== undefined) return before;
  const plan: MessagePlan = { fields: [], byTag: [], numbers: new Set() };
  known.set(desc.typeName, plan);
  const sorted = desc.fields.toSorted((a, b) => a.number - b.number);
  if ((sorted.at(-1)?.number ?? 0) > MAX_FIELD_NUMBER) return undefined;
  const fields: FieldPlan[] = [];
  for (const [place, field] of sorted.entries()) {
    const made = fieldPlan(field, place, sorted, known);
    if (made === undefined) return undefined;
    fields.push(made);
  }
  plan.fields = fields;
  plan.byTag = Array.from({ length: 8 * ((sorted.at(-1)?.number ?? 0) + 1) }, (_, tag) => fields.find((field) => field.tag === tag));
  plan.numbers = new Set(sorted.map(({ number }) => number));
  return plan;
}

function fieldPlan(field: DescField, place: number, sorted: readonly DescField[], known: Map<string, MessagePlan>): FieldPlan | undefined {
  const value = valuePlan(field, known);
  // Keys of other types are written in a different JSON form when they are names.
  const key = field.fieldKind === "map" && field.mapKey === ScalarType.STRING ? scalarPlan(field.mapKey) : undefined;
  if (value === undefined || (field.fieldKind === "map" && key === undefined)) return undefined;
  const kind = kindOf(field);
  return {
    write: value.write,
    wire: value.wire,
    tag: tagOf(field.number, kind === "packed" || kind === "map" ? WIRE.BYTES : value.wire),
    place,
    label: Buffer.from(`,${JSON.stringify(field.jsonName)}:`),
    kind,
    key,
    isImplicit: kind === "single" && field.presence === FeatureSet_FieldPresence.IMPLICIT,
    isMessage: field.fieldKind === "message",
    rivals: (field.oneof?.fields ?? []).filter((other) => other !== field).map((other) => sorted.indexOf(other)),
  };
}

function kindOf(field: DescField): FieldPlan["kind"] {
  if (field.fieldKind === "list") return field.packed ? "packed" : "list";
  return field.fieldKind === "map" ? "map" : "single";
}

function valuePlan(field: DescField, known: Map<string, MessagePlan>): ValuePlan | undefined {
  const { scalar, message, enum: enumeration } = field;
  if (scalar !== undefined) return scalarPlan(scalar);
  if (enumeration !== undefined) return enumPlan(enumeration);
  if (message === undefined) return undefined;
  const inside = messageWriter(message, known);
  if (inside === undefined) return undefined;
  const write: ValueWriter = (input, out) => {
    const end = input.end();
    return inside(input, out, end) && input.at === end ? WRITTEN : LEFT;
  };
  return { write, wire: WIRE.BYTES };
}

type MessageWriter = (input: WireInput, out: JsonOutput, end: number) => boolean;

function messageWriter(desc: DescMessage, known: Map<string, MessagePlan>): MessageWriter | undefined {
  if (desc.typeName === "google.protobuf.Timestamp") return writeTimestamp;
  if (desc.typeName === "google.protobuf.Duration") return writeDuration;
  if (desc.typeName.startsWith("google.protobuf.")) return undefined;
  const plan = planOf(desc, known);
  return plan === undefined ? undefined : (input, out, end) => writeMessage(input, out, plan, end);
}

function enumPlan(desc: DescEnum): ValuePlan {
  const names = new Map(desc.values.map(({ number, name }) => [number, Buffer.from(JSON.stringify(name))]));
  const write: ValueWriter = (input, out) => {
    const number = input.varint();
    const name = names.get(number);
    if (name !== undefined) out.known(name);
    else if (number < 2 ** 31) out.digits(number);
    else return LEFT;
    return number === 0 ? DEFAULT : WRITTEN;
  };
  return { write, wire: WIRE.VARINT };
}

const TRUE = Buffer.from("true");
const FALSE = Buffer.from("false");

function scalarPlan(type: ScalarType): ValuePlan | undefined {
  switch (type) {
    case ScalarType.STRING:
      return { write: writeText, wire: WIRE.BYTES };
    case ScalarType.BYTES:
      return { write: writeBytes, wire: WIRE.BYTES };
    case ScalarType.BOOL:
      return {
        write: (input, out) => (input.varint() === 0 ? outcomeOf(out.known(FALSE), true) : outcomeOf(out.known(TRUE), false)),
        wire: WIRE.VARINT,
      };
    case ScalarType.UINT32:
      return { write: (input, out) => writeUint(input.varint() >>> 0, out), wire: WIRE.VARINT };
    case ScalarType.INT32:
      return { write: (input, out) => writeSmall(Number(input.wide(true)) | 0, out), wire: WIRE.VARINT };
    case ScalarType.UINT64:
      return { write: (input, out) => writeWide(input.wide(false), out), wire: WIRE.VARINT };
    case ScalarType.INT64:
      return { write: (input, out) => writeWide(input.wide(true), out), wire: WIRE.VARINT };
    case ScalarType.FIXED64:
      return { write: (input, out) => writeWide(input.eight().getBigUint64(0, true), out), wire: WIRE.FIXED64 };
    case ScalarType.DOUBLE:
      return { write: (input, out) => writeDouble(input.eight().getFloat64(0, true), out), wire: WIRE.FIXED64 };
    // None of this program's fields uses this type.
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
    case ScalarType.SFIXED64:
    case ScalarType.SINT32:
    case ScalarType.SINT64:
      return undefined;
  }
}

function outcomeOf(_: void, isDefault: boolean): WriteOutcome {
  return isDefault ? DEFAULT : WRITTEN;
}

function writeText(input: WireInput, out: JsonOutput): WriteOutcome {
  const end = input.end();
  if (end > input.bytes.length) return LEFT;
  out.quoted(input.bytes, input.at, end);
  const isEmpty = input.at === end;
  input.at = end;
  return isEmpty ? DEFAULT : WRITTEN;
}

function writeBytes(input: WireInput, out: JsonOutput): WriteOutcome {
  const end = input.end();
  const { bytes, at } = input;
  const size = Math.max(0, Math.min(end, bytes.length) - at);
  out.ascii(`"${Buffer.from(bytes.buffer, bytes.byteOffset + at, size).toString("base64")}"`);
  input.at = end;
  return size === 0 ? DEFAULT : WRITTEN;
}

function writeUint(value: number, out: JsonOutput): WriteOutcome {
  out.digits(value);
  return value === 0 ? DEFAULT : WRITTEN;
}

function writeSmall(value: number, out: JsonOutput): WriteOutcome {
  if (value < 0) out.ascii(String(value));
  else out.digits(value);
  return value === 0 ? DEFAULT : WRITTEN;
}

/** Writes a 64-bit number as text, because JSON numbers are not exact beyond 2^53. */
function writeWide(value: number | bigint, out: JsonOutput): WriteOutcome {
  out.byte(QUOTE);
  if (typeof value === "number" && value >= 0) out.digits(value);
  else out.ascii(String(value));
  out.byte(QUOTE);
  return value === 0 || value === 0n ? DEFAULT : WRITTEN;
}

function writeDouble(value: number, out: JsonOutput): WriteOutcome {
  if (Object.is(value, -0)) return LEFT;
  out.ascii(Number.isFinite(value) ? JSON.stringify(value) : `"${value}"`);
  return value === 0 ? DEFAULT : WRITTEN;
}

/** The result of `readTime`, which reads seconds and nanoseconds up to `end`. It returns false if there are other fields. */
const time = { seconds: 0, nanos: 0 };

function readTime(input: WireInput, end: number): boolean {
  time.seconds = 0;
  time.nanos = 0;
  while (input.at < end) {
    const tag = input.varint();
    if (tag === SECONDS_TAG) time.seconds = Number(input.wide(true));
    else if (tag === NANOS_TAG) time.nanos = Number(input.wide(true)) | 0;
    else return false;
  }
  return true;
}

const SECONDS_TAG = tagOf(1, WIRE.VARINT);
const NANOS_TAG = tagOf(2, WIRE.VARINT);

/** Years 1 to 9999, because other years have no JSON form. */
const [MIN_SECONDS, MAX_SECONDS] = [-62_135_596_800, 253_402_300_799];
const DAY_SECONDS = 86_400;

// HOT: runs twice for each entry. Formatting both times with Date would cost a tenth of an answer.
function writeTimestamp(input: WireInput, out: JsonOutput, end: number): boolean {
  if (!readTime(input, end)) return false;
  const { seconds, nanos } = time;
  if (seconds < MIN_SECONDS || seconds > MAX_SECONDS || nanos < 0 || nanos > 999_999_999) return false;
  const day = Math.floor(seconds / DAY_SECONDS);
  const ofDay = seconds - day * DAY_SECONDS;
  const minutes = Math.floor(ofDay / 60);
  out.known(dayBytes(day));
  out.digits(Math.floor(minutes / 60), 2);
  out.byte(COLON);
  out.digits(minutes % 60, 2);
  out.byte(COLON);
  out.digits(ofDay % 60, 2);
  writeFraction(nanos, out);
  out.byte(CAPITAL_Z);
  out.byte(QUOTE);
  return true;
}

const MAX_DAYS = 1_000;
const days = new Map<number, Uint8Array>();

/** `"2026-01-31T`, which is cached for the next entry with the same date. */
function dayBytes(day: number): Uint8Array {
  let bytes = days.get(day);
  if (bytes === undefined) {
    if (days.size >= MAX_DAYS) days.clear();
    bytes = Buffer.from(`"${new Date(day * DAY_SECONDS * 1000).toISOString().slice(0, -13)}`);
    days.set(day, bytes);
  }
  return bytes;
}

const MAX_DURATION_SECONDS = 315_576_000_000;

function writeDuration(input: WireInput, out: JsonOutput, end: number): boolean {
  if (!readTime(input, end)) return false;
  const { seconds, nanos } = time;
  if (Math.abs(seconds) > MAX_DURATION_SECONDS || Math.abs(nanos) > 999_999_999 || seconds * nanos < 0) return false;
  out.byte(QUOTE);
  if (seconds < 0 || nanos < 0) out.byte(MINUS);
  out.digits(Math.abs(seconds));
  writeFraction(Math.abs(nanos), out);
  out.byte(SMALL_S);
  out.byte(QUOTE);
  return true;
}

/** Writes a fraction with 0, 3, 6, or 9 digits. */
function writeFraction(nanos: number, out: JsonOutput): void {
  if (nanos === 0) return;
  out.byte(POINT);
  if (nanos % 1_000_000 === 0) out.digits(nanos / 1_000_000, 3);
  else if (nanos % 1_000 === 0) out.digits(nanos / 1_000, 6);
  else out.digits(nanos, 9);
}
