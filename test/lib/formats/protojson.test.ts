/** JSON written from encoded answers is what the library makes of their messages. */

import { isDeepStrictEqual } from "node:util";
import {
  create,
  type DescField,
  type DescMessage,
  fromBinary,
  type JsonValue,
  type Message,
  ScalarType,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { StructSchema, TimestampSchema } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { CatalogQueryResponseSchema, DiscoveryService, RegisterResponseSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { jsonTextOf } from "../../../src/lib/formats/protojson.ts";
import { runs } from "../../fakes/effort.ts";

const OUTPUTS = DiscoveryService.methods.map(({ output }) => output);
const MAX_DEPTH = 4;
/** How much memory for answers is kept in any case. */
const KEPT_BYTES = 65_536;

const INT32 = fc.oneof(fc.constantFrom(0, 1, -1, 2 ** 31 - 1, -(2 ** 31)), fc.integer());
const UINT32 = fc.oneof(fc.constantFrom(0, 1, 127, 128, 2 ** 32 - 1), fc.nat(2 ** 32 - 1));
const UINT64 = fc.oneof(fc.constantFrom(0n, 1n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 1n), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }));
const INT64 = fc.oneof(fc.constantFrom(0n, -1n, -(2n ** 63n), 2n ** 63n - 1n), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }));
const TEXT = fc.oneof(
  fc.constantFrom("", "a", "\u001f", "\u007f", '"\\\u2028</', "é😀", "\u0000"),
  fc.string({ unit: "grapheme", maxLength: 12 }),
);

function anyScalar(type: ScalarType): fc.Arbitrary<unknown> {
  switch (type) {
    case ScalarType.STRING:
      return TEXT;
    case ScalarType.BYTES:
      return fc.uint8Array({ maxLength: 8 });
    case ScalarType.BOOL:
      return fc.boolean();
    case ScalarType.UINT32:
      return UINT32;
    case ScalarType.INT32:
      return INT32;
    case ScalarType.UINT64:
    case ScalarType.FIXED64:
      return UINT64;
    case ScalarType.INT64:
      return INT64;
    case ScalarType.DOUBLE:
      return fc.oneof(fc.constantFrom(0, 0.1, 1e300, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY), fc.double());
    case ScalarType.FLOAT:
    case ScalarType.FIXED32:
    case ScalarType.SFIXED32:
    case ScalarType.SFIXED64:
    case ScalarType.SINT32:
    case ScalarType.SINT64:
      throw new Error(`no values of scalar ${type}`);
  }
}

function anySingle(field: Pick<DescField, "scalar" | "enum" | "message">, depth: number): fc.Arbitrary<unknown> {
  if (field.scalar !== undefined) return anyScalar(field.scalar);
  if (field.enum !== undefined) return fc.constantFrom(...field.enum.values.map(({ number }) => number), 77);
  if (field.message === undefined) throw new Error("a field of no kind");
  return anyMessage(field.message, depth + 1);
}

/** What sets the field of a message, or leaves it. */
function anySetting(field: DescField, depth: number): fc.Arbitrary<(message: ReflectMessage) => void> {
  if (depth >= MAX_DEPTH && field.message !== undefined) return fc.constant(() => {});
  const own = (value: unknown) => (field.message === undefined ? value : reflect(field.message, value as Message));
  const single = anySingle(field, depth);
  if (field.fieldKind === "list")
    return fc.array(single, { maxLength: 3 }).map((items) => (message) => items.forEach((item) => message.get(field).add(own(item))));
  if (field.fieldKind === "map")
    return fc
      .array(fc.tuple(TEXT, single), { maxLength: 3 })
      .map((pairs) => (message) => pairs.forEach(([key, value]) => message.get(field).set(key, own(value))));
  return fc.option(single).map((value) => (message) => {
    if (value !== null) message.set(field, own(value));
  });
}

function anyMessage(desc: DescMessage, depth = 0): fc.Arbitrary<Message> {
  if (desc.typeName === "google.protobuf.Timestamp")
    return fc
      .record({
        seconds: fc.bigInt({ min: -62_135_596_800n, max: 253_402_300_799n }),
        nanos: fc.constantFrom(0, 1, 1000, 5_000_000, 999_999_999),
      })
      .map((init) => create(desc, init as never));
  if (desc.typeName === "google.protobuf.Duration")
    return fc
      .record({ sign: fc.constantFrom(1, -1), seconds: fc.nat(1e9), nanos: fc.constantFrom(0, 1, 120_000, 999_000_000) })
      .map(({ sign, seconds, nanos }) => create(desc, { seconds: BigInt(sign * seconds), nanos: sign * nanos }));
  return fc.tuple(...desc.fields.map((field) => anySetting(field, depth))).map((settings) => {
    const message = reflect(desc);
    for (const set of settings) set(message);
    return message.message;
  });
}

describe.each(OUTPUTS.map((desc) => ({ name: desc.typeName, desc })))("$name", ({ desc }) => {
  test("as the library writes it", () => {
    const textOf = jsonTextOf(desc);
    fc.assert(
      fc.property(anyMessage(desc), (message) => {
        const bytes = toBinary(desc, message);
        const text = textOf?.(bytes);
        // Only what no answer holds is left to the library.
        fc.pre(text !== undefined);
        expect(parsed(text ?? "")).toEqual(JSON.parse(JSON.stringify(toJson(desc, message))));
      }),
      { numRuns: runs(200) },
    );
  });

  test("two messages one behind the other, and bytes cut short: as the library writes them, or left to it", () => {
    const textOf = jsonTextOf(desc);
    fc.assert(
      fc.property(anyMessage(desc), anyMessage(desc), fc.nat(), (first, second, cut) => {
        const bytes = Buffer.concat([toBinary(desc, first), toBinary(desc, second)]);
        const text = textOf?.(bytes);
        if (text !== undefined) expect(parsed(text)).toEqual(JSON.parse(JSON.stringify(toJson(desc, fromBinary(desc, bytes)))));
        const short = bytes.subarray(0, cut % (bytes.length + 1));
        const shortText = textOf?.(short);
        if (shortText !== undefined) expect(parsed(shortText)).toEqual(JSON.parse(JSON.stringify(toJson(desc, fromBinary(desc, short)))));
      }),
      { numRuns: runs(200) },
    );
  });
});

function parsed(text: string): JsonValue {
  return JSON.parse(Buffer.from(text, "latin1").toString()) as JsonValue;
}

const query = jsonTextOf(CatalogQueryResponseSchema);

function both(bytes: Uint8Array): readonly (JsonValue | undefined)[] {
  const text = query?.(bytes);
  return [text === undefined ? undefined : parsed(text), toJson(CatalogQueryResponseSchema, fromBinary(CatalogQueryResponseSchema, bytes))];
}

test("the last value of a field counts, and fields that nobody knows are passed over", () => {
  const first = toBinary(CatalogQueryResponseSchema, create(CatalogQueryResponseSchema, { cursor: "a", revision: 7n }));
  const last = toBinary(CatalogQueryResponseSchema, create(CatalogQueryResponseSchema, { cursor: "b", revision: 0n }));
  const unknown = Buffer.from([0x98, 0x3f, 0x96, 0x01, 0x9a, 0x3f, 0x02, 0x61, 0x62]);
  const [ours, theirs] = both(Buffer.concat([first, unknown, last]));
  expect(ours).toEqual(theirs);
});

test.each([
  { name: "a message that comes twice, which the library merges", bytes: [0x1a, 0x02, 0x08, 0x01, 0x1a, 0x02, 0x10, 0x02] },
  { name: "bytes that end too early", bytes: [0x22, 0x05, 0x61] },
  { name: "a field of another wire type", bytes: [0x28, 0x05] },
])("$name is left to the library", ({ bytes }) => {
  expect(query?.(Uint8Array.from(bytes))).toBeUndefined();
});

test("an answer is whole wherever it outgrows the memory that is kept", { tags: ["night"] }, () => {
  const long = toBinary(CatalogQueryResponseSchema, create(CatalogQueryResponseSchema, { servedBy: "x".repeat(600_000) }));
  const rest = create(CatalogQueryResponseSchema, {
    generatedAt: { seconds: 1_700_000_000n, nanos: 5_000_000 },
    revision: 2n ** 63n,
    cursor: "é\n",
    servedBy: "a",
    age: { seconds: 12n, nanos: 1 },
  });
  const [restBytes, told] = [toBinary(CatalogQueryResponseSchema, rest), toJson(CatalogQueryResponseSchema, rest)];
  const restLength = JSON.stringify(told).length;
  for (let length = KEPT_BYTES - restLength - 40; length <= KEPT_BYTES; length++) {
    // What was kept of it is given back, because it is too much.
    query?.(long);
    const token = "t".repeat(length);
    const text = query?.(
      Buffer.concat([toBinary(CatalogQueryResponseSchema, create(CatalogQueryResponseSchema, { nextPageToken: token })), restBytes]),
    );
    expect(isDeepStrictEqual(parsed(text ?? "null"), { nextPageToken: token, ...(told as object) }), `a token of ${length}`).toBe(true);
  }
});

test("of a oneof the member that came last counts", () => {
  const [first, last] = [
    toBinary(EntrySchema, create(EntrySchema, { detail: { case: "service", value: {} } })),
    toBinary(EntrySchema, create(EntrySchema, { detail: { case: "node", value: {} } })),
  ];
  const text = jsonTextOf(EntrySchema)?.(Buffer.concat([first, last]));
  expect(parsed(text ?? "null")).toEqual(toJson(EntrySchema, fromBinary(EntrySchema, Buffer.concat([first, last]))));
});

test("a key that a map has twice is left to the library", () => {
  const pair = toBinary(EntrySchema, create(EntrySchema, { metadata: { v: "1" } }));
  expect(jsonTextOf(EntrySchema)?.(pair)).toBe('{"metadata":{"v":"1"}}');
  expect(jsonTextOf(EntrySchema)?.(Buffer.concat([pair, pair]))).toBeUndefined();
});

test.each([
  { seconds: -62_135_596_801n, text: undefined },
  { seconds: -62_135_596_800n, text: '"0001-01-01T00:00:00Z"' },
  { seconds: 253_402_300_799n, text: '"9999-12-31T23:59:59Z"' },
  { seconds: 253_402_300_800n, text: undefined },
])("a time of $seconds s is $text", ({ seconds, text }) => {
  const answer = toBinary(CatalogQueryResponseSchema, create(CatalogQueryResponseSchema, { generatedAt: { seconds } }));
  expect(query?.(answer)).toBe(text && `{"generatedAt":${text}}`);
});

test("a type whose JSON the library alone knows has no writer", () => {
  expect(jsonTextOf(StructSchema)).toBeUndefined();
  expect(jsonTextOf(RegisterResponseSchema)).toBeDefined();
  expect(jsonTextOf(TimestampSchema)).toBeDefined();
});
