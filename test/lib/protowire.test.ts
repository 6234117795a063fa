import { BinaryReader, BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { expect, test } from "vitest";
import { WaymarkError } from "../../src/lib/errors.ts";
import {
  closeLength,
  hasField,
  openLength,
  tagOf,
  takeBytes,
  utf8Size,
  varintSize,
  WIRE,
  WireReader,
  writeBytes,
  writeBytesField,
  writeDouble,
  writeFixed64Field,
  writePackedFixed32Field,
  writeText,
  writeVarint,
  writeVarint64,
} from "../../src/lib/protowire.ts";
import { runs } from "../fakes/effort.ts";

const MAX_SAFE = Number.MAX_SAFE_INTEGER;
const U64_MAX = 2n ** 64n - 1n;
const safeInteger = fc.oneof(
  fc.maxSafeNat(),
  fc.constantFrom(0, 1, 127, 128, 16_383, 16_384, 2 ** 28 - 1, 2 ** 28, 2 ** 32 - 1, 2 ** 32, 2 ** 35, 2 ** 49, MAX_SAFE),
);
const text = fc
  .oneof(fc.string({ unit: "binary", maxLength: 200 }), fc.string({ unit: "grapheme-ascii", maxLength: 20 }))
  .filter((t) => t.isWellFormed());

function written(write: (out: Uint8Array) => number): Uint8Array {
  const out = new Uint8Array(2048);
  return out.subarray(0, write(out));
}

function refusal(bytes: Uint8Array, read: (reader: WireReader) => unknown): string {
  try {
    read(new WireReader(bytes));
  } catch (error) {
    if (error instanceof WaymarkError) return error.message;
    throw error;
  }
  return "none";
}

test("varints, doubles and texts are written as protobuf-es writes them", () => {
  fc.assert(
    fc.property(safeInteger, fc.bigInt(0n, U64_MAX), fc.double(), text, (small, large, double, words) => {
      const ours = written((out) => {
        let at = writeVarint(out, 0, small);
        at = writeVarint64(out, at, large);
        at = writeDouble(out, at, double);
        return writeText(out, at, words);
      });
      const theirs = new BinaryWriter().uint64(small).uint64(large).double(double).string(words).finish();
      expect(ours).toEqual(theirs);
      expect(varintSize(small)).toBe(new BinaryWriter().uint64(small).finish().length);
      expect(utf8Size(words)).toBe(new TextEncoder().encode(words).length);
    }),
  );
});

test("what protobuf-es writes is read back", () => {
  fc.assert(
    fc.property(safeInteger, fc.bigInt(0n, U64_MAX), fc.double(), text, fc.uint8Array(), (small, large, double, words, blob) => {
      const reader = new WireReader(new BinaryWriter().uint64(small).uint64(large).double(double).string(words).bytes(blob).finish());
      expect(reader.varint()).toBe(small);
      expect(reader.varint64()).toBe(large);
      expect(reader.double()).toBe(double);
      expect(reader.text()).toBe(words);
      expect(reader.view()).toEqual(blob);
      expect(reader.isDone()).toBe(true);
    }),
  );
});

test.each([
  { what: "kept at the same place", texts: ["1rom", "1ron", "1rom"] },
  { what: "of which one begins the other", texts: ["", "a", "ab", "a", ""] },
])("short texts $what are told apart", ({ texts }) => {
  const read = texts.map((short) => {
    const bytes = Buffer.from(short);
    return new WireReader(Buffer.from([bytes.length, ...bytes])).text();
  });
  expect(read).toEqual(texts);
});

test("fixed numbers and bytes are written as protobuf-es writes them, and read back", () => {
  const fixed = fc.array(fc.nat(0xffff_ffff), { maxLength: 20 });
  fc.assert(
    fc.property(fc.bigInt(0n, U64_MAX), fixed, fc.uint8Array(), (large, list, bytes) => {
      const ours = written((out) => {
        const at = writeFixed64Field(out, 0, tagOf(1, WIRE.FIXED64), large);
        return writeBytesField(out, writePackedFixed32Field(out, at, tagOf(2, WIRE.BYTES), list), tagOf(3, WIRE.BYTES), bytes);
      });
      const theirs = new BinaryWriter();
      if (large > 0n) theirs.tag(1, WireType.Bit64).fixed64(large);
      if (list.length > 0) {
        theirs.tag(2, WireType.LengthDelimited).fork();
        for (const each of list) theirs.fixed32(each);
        theirs.join();
      }
      expect(ours).toEqual(theirs.tag(3, WireType.LengthDelimited).bytes(bytes).finish());
      const reader = new WireReader(ours);
      if (large > 0n) expect([reader.tag(), reader.fixed64()]).toEqual([tagOf(1, WIRE.FIXED64), large]);
      if (list.length > 0) {
        expect(reader.tag()).toBe(tagOf(2, WIRE.BYTES));
        const outer = reader.enter();
        expect(list.map(() => reader.fixed32())).toEqual(list);
        expect(reader.isDone()).toBe(true);
        reader.leave(outer);
      }
      expect([reader.tag(), reader.view()]).toEqual([tagOf(3, WIRE.BYTES), bytes]);
    }),
  );
});

test("a number of 64 bits is exact up to 2^53, and above it never at most 2^53", () => {
  fc.assert(
    fc.property(fc.oneof(safeInteger.map(BigInt), fc.bigInt(0n, U64_MAX)), (value) => {
      const read = new WireReader(new BinaryWriter().uint64(value).finish()).number();
      if (value <= MAX_SAFE) expect(read).toBe(Number(value));
      else expect(read).toBeGreaterThan(MAX_SAFE);
    }),
  );
  expect(new WireReader(new BinaryWriter().int64(-1n).finish()).number()).toBeGreaterThan(MAX_SAFE);
});

test("a lone surrogate is written as U+FFFD, and counted so", () => {
  for (const words of ["\ud800", "a\udc00b", "\ud83d\ud83d\ude00"]) {
    const bytes = written((out) => writeText(out, 0, words));
    expect(bytes).toEqual(new BinaryWriter().string(words.toWellFormed()).finish());
    expect(utf8Size(words)).toBe(bytes.length - 1);
  }
});

test.each([0, 1, 127, 128, 300])("a nested message of %i bytes gets its length in front of it", (size) => {
  const inner = new Uint8Array(size).fill(7);
  const bytes = written((out) => {
    const body = openLength(writeVarint(out, 0, tagOf(3, WIRE.BYTES)));
    return closeLength(out, body, writeBytes(out, body, inner));
  });
  expect(bytes).toEqual(new BinaryWriter().tag(3, WireType.LengthDelimited).bytes(inner).finish());
  const reader = new WireReader(bytes);
  expect(reader.tag()).toBe(tagOf(3, WIRE.BYTES));
  const outer = reader.enter();
  expect(reader.end - reader.at).toBe(size);
  reader.leave(outer);
  expect(reader.isDone()).toBe(true);
});

test("reading stays inside the message: a nested one cannot read its neighbour", () => {
  const reader = new WireReader(Uint8Array.of(1, 0x80, 0x01));
  reader.enter();
  expect(() => reader.varint()).toThrow("truncated varint");
});

test.each([
  { what: "an empty varint", bytes: [], read: "varint", why: "truncated varint" },
  { what: "a cut varint", bytes: [0x80], read: "varint", why: "truncated varint" },
  { what: "2^53", bytes: [...new BinaryWriter().uint64(2n ** 53n).finish()], read: "varint", why: "above 2^53" },
  { what: "minus one", bytes: [...new BinaryWriter().int64(-1n).finish()], read: "varint", why: "above 2^53" },
  { what: "a varint that does not end", bytes: new Array<number>(16).fill(0x80), read: "varint", why: "above 2^53" },
  { what: "eleven bytes", bytes: [...new Array<number>(10).fill(0x80), 1], read: "varint64", why: "varint longer than 10 bytes" },
  { what: "2^64", bytes: [...new Array<number>(9).fill(0x80), 2], read: "varint64", why: "above 2^64" },
  { what: "half a double", bytes: [1, 2, 3], read: "double", why: "length 8 exceeds the remaining 3 bytes" },
  { what: "a text longer than the message", bytes: [5, 65], read: "text", why: "length 5 exceeds the remaining 1 bytes" },
  { what: "bytes of 2^40", bytes: [0x80, 0x80, 0x80, 0x80, 0x80, 0x20], read: "view", why: "exceeds the remaining" },
  { what: "text that is not UTF-8", bytes: [2, 0xc3, 0x28], read: "text", why: "not UTF-8" },
  { what: "a long text that is not UTF-8", bytes: [14, ...new Array<number>(13).fill(65), 0xff], read: "text", why: "not UTF-8" },
  { what: "field number zero", bytes: [2], read: "tag", why: "tag 2" },
  { what: "a tag above 2^32", bytes: [0x80, 0x80, 0x80, 0x80, 0x10], read: "tag", why: "tag" },
] as const)("$what is refused", ({ bytes, read, why }) => {
  const message = refusal(Uint8Array.from(bytes), (reader) => reader[read]());
  expect(message).toContain("invalid_argument: malformed protobuf");
  expect(message).toContain(why);
});

test("groups and unknown wire types are refused, everything else is skipped", () => {
  for (const wire of [3, 4, 6, 7]) expect(refusal(Uint8Array.of(0), (reader) => reader.skip(8 + wire))).toContain(`wire type ${wire}`);
  const reader = new WireReader(Uint8Array.of(0xff, 1, 1, 2, 3, 4, 5, 6, 7, 8, 2, 9, 9, 1, 2, 3, 4));
  for (const wire of [WIRE.VARINT, WIRE.FIXED64, WIRE.BYTES, WIRE.FIXED32]) reader.skip(tagOf(9, wire));
  expect(reader.isDone()).toBe(true);
});

test("any bytes end in values or a refusal, never outside the bytes, and never where protobuf-es refuses a varint", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
      const reader = new WireReader(bytes);
      const problem = refusal(bytes, () => {
        while (!reader.isDone()) reader.skip(reader.tag());
      });
      expect(reader.at).toBeLessThanOrEqual(bytes.length);
      if (problem !== "none") return;
      const theirs = new BinaryReader(bytes);
      while (theirs.pos < theirs.len) {
        const [field, wire] = theirs.tag();
        theirs.skip(wire, field);
      }
    }),
    { numRuns: runs(2000) },
  );
});

test("a field is found at the top level and nowhere else", () => {
  const inner = written((out) => writeText(out, writeVarint(out, 0, tagOf(9, WIRE.BYTES)), "inside"));
  const bytes = written((out) => {
    const at = writeVarint64(out, writeVarint(out, 0, tagOf(2, WIRE.VARINT)), U64_MAX);
    return writeDouble(
      out,
      writeVarint(
        out,
        writeBytes(out, writeVarint(out, writeVarint(out, at, tagOf(1, WIRE.BYTES)), inner.length), inner),
        tagOf(3, WIRE.FIXED64),
      ),
      1,
    );
  });
  expect([1, 2, 3, 9].map((field) => hasField(bytes, field))).toEqual([true, true, true, false]);
  expect(() => hasField(bytes.subarray(0, bytes.length - 1), 9)).toThrow(/exceeds the remaining/);
});

test("arrays are zeroed, of the size asked for, and never overlap", () => {
  const sizes = Array.from({ length: 3000 }, (_, i) => (i * 37) % 300);
  const arrays = sizes.map((size) => takeBytes(size));
  arrays.forEach((bytes, i) => {
    expect(bytes.length).toBe(sizes[i]);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
    bytes.fill(i & 255);
  });
  arrays.forEach((bytes, i) => {
    expect(bytes.every((byte) => byte === (i & 255))).toBe(true);
  });
});

test("a large array has a buffer of its own", () => {
  expect(takeBytes(100_000).buffer.byteLength).toBe(100_000);
});
