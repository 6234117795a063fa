/** A sealed entry with another node or health: every other byte is as it was. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { EntrySchema } from "../../../gen/waymark/catalog/v1/entry_pb.js";
import { withHealth, withNode } from "../../../src/catalog/entry/edit.ts";
import { HEALTH } from "../../../src/catalog/record/record.ts";

const ENTRY = create(EntrySchema, {
  key: { namespace: "svc", name: "web" },
  nodeId: "n1",
  health: HEALTH.HEALTHY,
  detail: { case: "topic", value: { patterns: ["a.b"] } },
});
/** Field 1000 of the entry, and field 8 of a second target: of a later version both. */
const LATER = Uint8Array.of(0xc0, 0x3e, 7);
const TARGET = Uint8Array.of(0x1a, 7, 0x12, 1, 0x68, 0x18, 80, 0x40, 9);

const joined = (...parts: readonly Uint8Array[]) => Uint8Array.from(Buffer.concat(parts));
const latin = (bytes: Uint8Array) => Buffer.from(bytes).toString("latin1");

test("another node's name takes the place of the first; fields of later versions stay, wherever they are", () => {
  const bytes = joined(TARGET, toBinary(EntrySchema, ENTRY), LATER);
  expect(latin(withNode(bytes, "another-node"))).toBe(latin(bytes).replace("\x6a\x02n1", "\x6a\x0canother-node"));
});

test("another health changes one byte, also of an entry that ends with fields of later versions", () => {
  const bytes = joined(TARGET, toBinary(EntrySchema, ENTRY), LATER);
  const ill = withHealth(bytes, HEALTH.CRITICAL);
  expect(ill).toHaveLength(bytes.length);
  expect(ill.filter((byte, i) => byte !== bytes[i])).toEqual(Uint8Array.of(HEALTH.CRITICAL));
});

test("a field that is absent is put where the encoder writes it, and one that is there twice is there once", () => {
  const wanted = toBinary(EntrySchema, { ...ENTRY, nodeId: "n2" });
  expect(withNode(toBinary(EntrySchema, { ...ENTRY, nodeId: "" }), "n2")).toEqual(wanted);
  expect(withNode(joined(toBinary(EntrySchema, ENTRY), Uint8Array.of(0x6a, 1, 0x78)), "n2")).toEqual(wanted);
  const bare = create(EntrySchema, { key: { namespace: "svc", name: "web" } });
  expect(fromBinary(EntrySchema, withHealth(toBinary(EntrySchema, bare), HEALTH.DEGRADED))).toEqual({ ...bare, health: HEALTH.DEGRADED });
});
