/** Metadata: names, values in text and in bytes, and their way through header blocks. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { addFields, decodeBinary, encodeBinary, GrpcMetadata, metadataOf } from "../../src/grpc/wire/metadata.ts";

const name = fc.stringMatching(/^x-[0-9a-z_.-]{1,12}$/).filter((each) => !each.endsWith("-bin"));
const text = fc.stringMatching(/^[\x21-\x7e](?:[\x20-\x7e]{0,10}[\x21-\x7e])?$/);
const entry = fc.oneof(
  fc.tuple(name, text),
  fc.tuple(
    name.map((each) => `${each}-bin`),
    fc.uint8Array({ maxLength: 20 }),
  ),
);

test("what is put into a header block comes out of its fields, each name's values in order", () => {
  fc.assert(
    fc.property(fc.array(entry, { maxLength: 10 }), (entries) => {
      const sent = new GrpcMetadata();
      for (const [key, value] of entries) sent.add(key, value);
      const block: Record<string, string | readonly string[]> = {};
      addFields(block, sent);
      const fields = Object.entries(block).flatMap(([key, values]) => [values].flat().flatMap((value) => [key, value]));
      const read = metadataOf([":status", "200", "content-type", "application/grpc", "grpc-status", "0", ...fields]);
      expect(read.size).toBe(entries.length);
      for (const [key] of entries) expect(read.getAll(key).map(String)).toEqual(sent.getAll(key).map(String));
    }),
  );
});

test("bytes may come with padding or without, and several values joined with commas", () => {
  expect(decodeBinary("AQ==")).toEqual(Uint8Array.of(1));
  expect(decodeBinary("AQ")).toEqual(Uint8Array.of(1));
  expect([decodeBinary("A"), decodeBinary("A*"), decodeBinary("A=A")]).toEqual([undefined, undefined, undefined]);
  expect(encodeBinary(Uint8Array.of(1))).toBe("AQ");
  expect(metadataOf(["a-bin", "AQ, Ag=="]).getAll("a-bin")).toEqual([Uint8Array.of(1), Uint8Array.of(2)]);
  expect(() => metadataOf(["a-bin", "*"])).toThrow(/invalid_argument: a-bin: must be base64/);
});

test.each([
  ["X-Upper", "a"],
  ["", "a"],
  [":path", "a"],
  ["grpc-timeout", "1S"],
  ["grpc-anything", "a"],
  ["content-type", "a"],
  ["te", "a"],
  ["connection", "a"],
  ["x-a", "ü"],
  ["x-a", "a\nb"],
  ["x-a-bin", "text"],
  ["x-a", new Uint8Array(1)],
])("%j with such a value is not for applications to set", (key, value) => {
  expect(() => new GrpcMetadata().add(key, value)).toThrow(/assertion failed/);
});

test("spaces around a value are not part of it, as on the wire", () => {
  expect(new GrpcMetadata().add("x-a", " b c ").get("x-a")).toBe("b c");
  expect(new GrpcMetadata().get("x-a")).toBeUndefined();
});
