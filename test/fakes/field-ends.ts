/** Every field of a protobuf message, and of those within it, at the ends of what it can hold: for peers that say anything. */
import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { MAX_STAMP } from "../../src/lib/hlc.ts";

const WIDE = [0n, 1n, 2n ** 32n, 2n ** 52n, 2n ** 52n + 1n, BigInt(MAX_STAMP), 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n];
const NARROW = [0, 1, 8, 9, 2 ** 31 - 1];
const FLOATS = [0, -0, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY];

/** What number fields can hold at their ends, and where a bound of ours may be. */
const NUMBERS = new Map<ScalarType, readonly (bigint | number)[]>([
  ...[ScalarType.UINT64, ScalarType.FIXED64].map((type) => [type, [...WIDE, 2n ** 63n, 2n ** 64n - 1n]] as const),
  ...[ScalarType.INT64, ScalarType.SINT64, ScalarType.SFIXED64].map((type) => [type, [...WIDE, -1n, -(2n ** 63n)]] as const),
  ...[ScalarType.UINT32, ScalarType.FIXED32].map((type) => [type, [...NARROW, 2 ** 31, 2 ** 32 - 1]] as const),
  ...[ScalarType.INT32, ScalarType.SINT32, ScalarType.SFIXED32].map((type) => [type, [...NARROW, -1, -(2 ** 31)]] as const),
  ...[ScalarType.FLOAT, ScalarType.DOUBLE].map((type) => [type, FLOATS] as const),
]);

const OTHERS = new Map<ScalarType, readonly unknown[]>([
  [ScalarType.STRING, ["", "a", "\u0000", "a b", "é".repeat(64), "a".repeat(65), "x".repeat(300_000)]],
  [ScalarType.BYTES, [new Uint8Array(), new Uint8Array(300_000)]],
  [ScalarType.BOOL, [false, true]],
]);
const ENUM = [0, 99, -1, 2 ** 31 - 1];
/** More than any list of ours holds. */
const MANY = 20_000;

export interface Change {
  readonly what: string;
  readonly make: (message: ReflectMessage) => void;
}

/** Which fields are changed. */
export type Fields = "numbers" | "all";

type Within = (message: ReflectMessage) => ReflectMessage;

/** Each field of a message and of those within it, at each of its ends. */
export function changesOf(desc: DescMessage, path: string, fields: Fields, within: Within = (message) => message): readonly Change[] {
  return desc.fields.flatMap((field) => changesOfField(field, `${path}.${field.name}`, fields, within));
}

function changesOfField(field: DescField, at: string, fields: Fields, within: Within): readonly Change[] {
  const ends = endsOf(field, fields).map(({ name, value }) => ({
    what: `${at} ${name}`,
    make: (message: ReflectMessage) => {
      const parent = within(message);
      if (field.fieldKind === "list") parent.get(field).add(value);
      else parent.set(field, value);
    },
  }));
  const shape = fields === "all" ? shapesOf(field, at, within) : [];
  return [...ends, ...shape, ...changesWithin(field, at, fields, within)];
}

function changesWithin(field: DescField, at: string, fields: Fields, within: Within): readonly Change[] {
  if (field.fieldKind === "message")
    return changesOf(field.message, at, fields, (message) => {
      const parent = within(message);
      if (!parent.isSet(field)) parent.set(field, reflect(field.message));
      return parent.get(field);
    });
  if (field.fieldKind === "list" && field.listKind === "message")
    return changesOf(field.message, at, fields, (message) => {
      const list = within(message).get(field);
      if (list.size === 0) list.add(reflect(field.message));
      return list.get(0) as ReflectMessage;
    });
  return [];
}

/** Absent, empty, or with more than anybody sends. */
function shapesOf(field: DescField, at: string, within: Within): readonly Change[] {
  const absent = { what: `${at} absent`, make: (message: ReflectMessage) => within(message).clear(field) };
  if (field.fieldKind === "message")
    return [absent, { what: `${at} empty`, make: (message) => within(message).set(field, reflect(field.message)) }];
  if (field.fieldKind === "map") {
    const fill = (message: ReflectMessage) => {
      const map = within(message).get(field);
      for (let i = 0; i < MANY; i++) map.set(`k${i}`, "v");
    };
    return [absent, { what: `${at} × ${MANY}`, make: fill }];
  }
  if (field.fieldKind !== "list") return [];
  const item = (): unknown =>
    field.listKind === "message" ? reflect(field.message) : field.listKind === "enum" ? 1 : (endsOf(field, "all")[1]?.value ?? 0);
  const fill = (message: ReflectMessage) => {
    const list = within(message).get(field);
    for (let i = 0; i < MANY; i++) list.add(item());
  };
  return [absent, { what: `${at} × ${MANY}`, make: fill }];
}

interface End {
  readonly name: string;
  readonly value: unknown;
}

/** Of a field, or of one in its list. */
function endsOf(field: DescField, fields: Fields): readonly End[] {
  if (field.fieldKind === "enum" || (field.fieldKind === "list" && field.listKind === "enum"))
    return fields === "all" ? ENUM.map((value) => ({ name: `enum ${value}`, value })) : [];
  if (field.fieldKind !== "scalar" && !(field.fieldKind === "list" && field.listKind === "scalar")) return [];
  const numbers = NUMBERS.get(field.scalar) ?? [];
  const others = fields === "all" ? (OTHERS.get(field.scalar) ?? []) : [];
  return [...numbers, ...others].map((value) => ({ name: named(value), value }));
}

function named(value: unknown): string {
  if (typeof value === "string") return `${JSON.stringify(value.slice(0, 10))} (${value.length})`;
  return value instanceof Uint8Array ? `${value.length} bytes` : Object.is(value, -0) ? "-0" : String(value);
}
