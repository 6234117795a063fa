/** The generator of codecs: what it refuses to leave unchecked, and that it gives what is in gen/. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import {
  type DescriptorProto,
  FieldDescriptorProto_Label,
  FieldDescriptorProto_Type,
  type FileDescriptorSet,
  FileDescriptorSetSchema,
} from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { codecFiles } from "../scripts/gen-codec.ts";
import { ROOT } from "../scripts/run.ts";

const DESCRIPTORS = readFileSync(join(ROOT, "gen/descriptors.binpb"));

function messageOf(set: FileDescriptorSet, name: string): DescriptorProto {
  const found = set.file
    .flatMap((file) => (["waymark.catalog.v1", "waymark.fabric.v1"].includes(file.package) ? file.messageType : []))
    .find((message) => message.name === name);
  if (found === undefined) throw new Error(`no message ${name}`);
  return found;
}

/** What is generated after a change of the contract. */
function after(change: (set: FileDescriptorSet) => void): Readonly<Record<string, string>> {
  const set = fromBinary(FileDescriptorSetSchema, DESCRIPTORS);
  change(set);
  return codecFiles(toBinary(FileDescriptorSetSchema, set));
}

function fieldOf(set: FileDescriptorSet, message: string, name: string) {
  const found = messageOf(set, message).field.find((field) => field.name === name);
  if (found === undefined) throw new Error(`no field ${name}`);
  return found;
}

test("what is in gen/ is what the contract gives, twice the same", () => {
  for (const [file, text] of Object.entries(codecFiles(DESCRIPTORS))) {
    expect(readFileSync(join(ROOT, "gen", file), "utf8")).toBe(text);
    expect(codecFiles(DESCRIPTORS)[file]).toBe(text);
  }
});

test("a field follows its number in the contract, not its place", () => {
  const moved = after((set) => {
    const target = messageOf(set, "Target");
    target.field = target.field.toReversed();
  });
  expect(moved).toEqual(codecFiles(DESCRIPTORS));
});

test("a field with another number has another tag, and is written in its order", () => {
  const code = after((set) => void (fieldOf(set, "Target", "name").number = 9))["waymark/catalog/v1/entry_codec.ts"] ?? "";
  expect(code).toMatch(/writeTextField\(out, at, 50, value\.protocol\);\s+at = writeTextField\(out, at, 74, value\.name\);/);
  expect(code).toContain("case 74:\n        value.name = reader.text();");
  expect(code).toContain("reader.skipUnknown(tag, 9);");
});

test("what nodes say to each other has the bounds of the contract, and a field that is deprecated is read by nobody", () => {
  const { "waymark/fabric/v1/fabric_codec.ts": code = "", "waymark/fabric/v1/fabric_rules.ts": rules = "" } = after((set) => {
    const rack = fieldOf(set, "MemberUpdate", "accuser");
    Object.assign(rack, { name: "rack", jsonName: "rack", number: 99 });
  });
  expect(code).toContain("case 794:\n        value.rack = reader.text();");
  expect(code).toContain("at = writeTextField(out, at, 794, value.rack);");
  expect(code).toContain("reader.skipUnknown(tag, 99);");
  expect(code).toMatch(/case 66:\n(?: +case \d+:\n)* +reader\.skip\(tag\);/);
  expect(code).not.toContain("lastSeen");
  expect(code).toContain("export const MAX_PUSH_PULL_REQUEST_MEMBERS = 10000;");
  expect(rules).toContain('if (value.rack !== "") problems.name(value.rack, 64, "rack");');
});

test.each<{ what: string; change: (set: FileDescriptorSet) => void; says: string }>([
  {
    what: "a type that no message has",
    change: (set) => void (fieldOf(set, "Target", "weight").type = FieldDescriptorProto_Type.SFIXED64),
    says: "Target.weight: there are no fields of this type yet",
  },
  {
    what: "a field that may be absent",
    change: (set) => {
      const target = messageOf(set, "Target");
      Object.assign(fieldOf(set, "Target", "weight"), { proto3Optional: true, oneofIndex: 0 });
      target.oneofDecl.push({ $typeName: "google.protobuf.OneofDescriptorProto", name: "_weight" });
    },
    says: "Target.weight: there are no fields of this type yet",
  },
  {
    what: "a list of doubles",
    change: (set) =>
      void Object.assign(fieldOf(set, "CacheDetail", "latitude"), { label: FieldDescriptorProto_Label.REPEATED, options: undefined }),
    says: "CacheDetail.latitude: there are no lists of this type yet",
  },
  {
    what: "a list without a bound",
    change: (set) => void delete fieldOf(set, "NodeDetail", "transports").options,
    says: "a list has a bound: repeated.max_items",
  },
  {
    what: "a map without a bound",
    change: (set) => void delete fieldOf(set, "NodeDetail", "labels").options,
    says: "a map has a bound: map.max_pairs",
  },
  {
    what: "a rule of another type",
    change: (set) => {
      const { options } = fieldOf(set, "Target", "port");
      if (options) fieldOf(set, "Target", "host").options = options;
    },
    says: "has no check for it",
  },
  {
    what: "a text in a load report, of which the greatest size is reckoned",
    change: (set) =>
      void Object.assign(fieldOf(set, "LoadReport", "error_rate"), { type: FieldDescriptorProto_Type.STRING, options: undefined }),
    says: "LoadReport.error_rate: a LoadReport has a greatest size",
  },
  {
    what: "a list of a frame without a bound",
    change: (set) => void delete fieldOf(set, "VectorFrame", "hashes").options,
    says: "VectorFrame.hashes: a list has a bound: repeated.max_items",
  },
  {
    what: "a number of 32 bits that is fixed, outside of a list",
    change: (set) => void (fieldOf(set, "OriginDigest", "digest").type = FieldDescriptorProto_Type.FIXED32),
    says: "OriginDigest.digest: there are no fields of this type yet",
  },
  {
    what: "a detail of no kind",
    change: (set) => void (fieldOf(set, "Entry", "cache").name = "cash"),
    says: "the detail cash is of no kind",
  },
  {
    what: "a field of the tail that is gone",
    change: (set) => void (fieldOf(set, "Entry", "load").name = "burden"),
    says: "Entry has no field load",
  },
  {
    what: "a kind after a gap",
    change: (set) => {
      const kinds = set.file.flatMap((file) => file.enumType).find(({ name }) => name === "EntryKind");
      const last = kinds?.value.at(-1);
      if (last !== undefined) last.number += 1;
    },
    says: "kinds are 1, 2, 3, … without a gap",
  },
])("$what is refused", ({ change, says }) => {
  expect(() => after(change)).toThrow(says);
});
