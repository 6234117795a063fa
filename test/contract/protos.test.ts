/** What every proto of ours obeys beside `buf lint`. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createFileRegistry, type DescFile, type DescMessage, fromBinary, ScalarType } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";

const set = fromBinary(FileDescriptorSetSchema, readFileSync(join(import.meta.dirname, "../../gen/descriptors.binpb")));
const files: readonly DescFile[] = [...createFileRegistry(set).files].filter(({ proto }) => proto.package.startsWith("waymark."));
const messages: readonly DescMessage[] = files.flatMap(({ messages: each }) => each.flatMap(withNested));

function withNested(message: DescMessage): readonly DescMessage[] {
  return [message, ...message.nestedMessages.flatMap(withNested)];
}

/** Words that a program in one of these languages cannot write as a name. `namespace` stays: it is the field's word, and generators of C++ add a `_`. */
const RESERVED: Readonly<Record<string, string>> = {
  python: `False None True and as assert async await break class continue def del elif else except finally for from global if import in is
    lambda nonlocal not or pass raise return try while with yield match case type self cls`,
  java: `abstract assert boolean break byte case catch char class const continue default do double else enum extends final finally float for
    goto if implements import instanceof int interface long native new package private protected public return short static strictfp super
    switch synchronized this throw throws transient try void volatile while true false null var record yield sealed permits`,
  cpp: `alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const consteval constexpr constinit
    const_cast continue co_await co_return co_yield decltype default delete do double dynamic_cast else enum explicit export extern false
    final float for friend goto if import inline int long module mutable new noexcept not not_eq nullptr operator or or_eq override private
    protected public register reinterpret_cast requires return short signed sizeof static static_assert static_cast struct switch template
    this thread_local throw true try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq`,
  go: `break case chan const continue default defer else fallthrough for func go goto if import interface map package range return select
    struct switch type var`,
};

test("no field has a name that is reserved in Python, Java, C++ or Go", () => {
  const words = new Set(Object.values(RESERVED).flatMap((text) => text.split(/\s+/)));
  const names = messages.flatMap(({ typeName, fields, oneofs }) => [...fields, ...oneofs].map(({ name }) => `${typeName}.${name}`));
  expect(names.length).toBeGreaterThan(400);
  expect(names.filter((name) => words.has(name.slice(name.lastIndexOf(".") + 1)))).toEqual([]);
});

/** Its form is the client's. */
const NO_DIGESTS = new Set(["waymark.catalog.v1.FunctionDetail.spec_digest"]);

test("a digest of 64 bits is a fixed64, a SHA-256 is hexadecimal text", () => {
  const fields = messages.flatMap(({ fields: each }) => each).filter((field) => !NO_DIGESTS.has(`${field.parent.typeName}.${field.name}`));
  const typeOf = (pattern: RegExp) =>
    new Set(fields.flatMap((field) => (pattern.test(field.name) && field.fieldKind === "scalar" ? [ScalarType[field.scalar]] : [])));
  expect([...typeOf(/^(?!with_)(.*_)?digest$/)]).toEqual(["FIXED64"]);
  expect([...typeOf(/(^|_)(checksum|hash)$/)]).toEqual(["STRING"]);
});
