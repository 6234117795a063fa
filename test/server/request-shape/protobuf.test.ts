import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { RegisterRequestSchema, RenewRequestSchema } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { ApplyPolicyRequestSchema } from "../../../gen/waymark/policy/v1/policy_pb.js";
import { RECORD_BOUNDS } from "../../../src/lib/bounds.ts";
import { planner, protobufFault } from "../../../src/server/request-shape/plan.ts";
import { runs } from "../../fakes/effort.ts";

const BOUNDS = { ...RECORD_BOUNDS, maxRequestEntries: 1000, maxTargets: 64, maxMetadataPairs: 64, maxListItems: 64 };
const planOf = planner(BOUNDS);

/** Of the bytes as they are, however few, and with a field that there is not, so long that they are looked at. */
function faultOf(desc: Parameters<typeof planOf>[0], bytes: Uint8Array): string {
  const [alone, long] = [bytes, Buffer.concat([inside(100 * 8 + 2, new Uint8Array(20_000)), bytes])].map(
    (each) => protobufFault(planOf(desc), each)?.message.replace(/^invalid_argument: /, "") ?? "",
  );
  if (bytes.length > 16_384) expect(alone).toBe(long);
  return long ?? "";
}

const varint = (value: number): readonly number[] => (value < 128 ? [value] : [(value & 127) | 128, ...varint(value >>> 7)]);

const repeated = (field: readonly number[], count: number): Uint8Array =>
  new Uint8Array(field.length * count).map((_, i) => field[i % field.length] ?? 0);

const inside = (tag: number, bytes: Uint8Array): Uint8Array =>
  Buffer.concat([Buffer.from([...varint(tag), ...varint(bytes.length)]), bytes]);

/** Bytes that a decoder may read to their end, or not: any fields with any wire types, groups, and varints of any length among them. */
const anyFields = fc
  .array(
    fc
      .record({
        number: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 5000 })),
        wire: fc.integer({ min: 0, max: 5 }),
        body: fc.oneof(
          fc.uint8Array({ maxLength: 6 }).map((bytes) => [bytes.length, ...bytes]),
          fc.integer({ min: 0, max: 12 }).map((count) => [...Array.from({ length: count }, () => 0x80), 1]),
          fc.uint8Array({ minLength: 4, maxLength: 8 }).map((bytes) => [...bytes]),
          fc.constant([]),
        ),
      })
      .map(({ number, wire, body }) => [...varint(number * 8 + wire), ...body]),
    { maxLength: 8 },
  )
  .map((fields) => Uint8Array.from(fields.flat()));

function isRead(bytes: Uint8Array): boolean {
  try {
    fromBinary(RegisterRequestSchema, bytes);
    return true;
  } catch {
    return false;
  }
}

test("whatever stands before them, too many items are seen where the decoder would read them", () => {
  let seen = 0;
  fc.assert(
    fc.property(anyFields, (before) => {
      if (!isRead(before)) return;
      seen += 1;
      const entries = Buffer.concat([before, repeated([0x0a, 0], 12_000)]);
      expect(faultOf(RegisterRequestSchema, entries)).toContain("entries: has more than 1000 items (limits.max_request_entries)");
    }),
    // About an eighth of them can be read.
    { numRuns: runs(800) },
  );
  expect(seen).toBeGreaterThan(5);
});

test("bytes of a few fields are never refused", () => {
  fc.assert(
    fc.property(anyFields, (bytes) => {
      expect(faultOf(RegisterRequestSchema, bytes)).toBe("");
      expect(faultOf(RegisterRequestSchema, inside(0x0a, bytes))).toBe("");
    }),
  );
});

test.each([
  { what: "a list a little beyond its bound, of which the rules say all faults", bytes: repeated([0x0a, 0], 11_000), says: "" },
  { what: "one more", bytes: repeated([0x0a, 0], 11_001), says: "entries: has more than 1000 items (limits.max_request_entries)" },
  {
    what: "lists of many entries, each a little beyond its bound",
    bytes: Buffer.concat(Array.from({ length: 900 }, () => inside(0x0a, repeated([0x22, 1, 0x61], 100)))),
    says: "entries[277].tags: has more than 64 items (limits.max_list_items)",
  },
  {
    what: "the same at their bound",
    bytes: Buffer.concat(Array.from({ length: 1000 }, () => inside(0x0a, repeated([0x22, 1, 0x61], 64)))),
    says: "",
  },
  {
    what: "pairs of a map",
    bytes: inside(0x0a, repeated([0x3a, 6, 0x0a, 1, 0x61, 0x12, 1, 0x62], 12_000)),
    says: "entries[0].metadata: has more than 64 items (limits.max_metadata_pairs)",
  },
  {
    what: "fields that a pair does not have",
    bytes: inside(0x0a, inside(0x3a, repeated([0x1a, 0], 12_000))),
    says: "request: has more than 10000 unknown or repeated fields",
  },
  {
    what: "fields in a group that there is not",
    bytes: Buffer.concat([Buffer.from(varint(100 * 8 + 3)), repeated([0x0a, 0], 12_000)]),
    says: "request: has more than 10000 unknown or repeated fields",
  },
])("$what", ({ bytes, says }) => {
  expect(faultOf(RegisterRequestSchema, bytes)).toBe(says);
});

test("a policy that comes in many parts, which a decoder merges, has the bounds of one", () => {
  const parts = Array.from({ length: 3 }, () => inside(0x0a, repeated([0x1a, 0], 9000)));
  expect(faultOf(ApplyPolicyRequestSchema, Buffer.concat(parts))).toBe("policy.rules: has more than 10000 items");
});

test("lists inside a policy have their bounds too", () => {
  const windows = inside(0x0a, inside(0x1a, repeated([0x3a, 0], 12_000)));
  expect(faultOf(ApplyPolicyRequestSchema, windows)).toBe("policy.rules[0].cutover_windows: has more than 256 items");
});

test.each([
  { rules: 200, list: repeated([0x3a, 0], 100), says: "" },
  {
    rules: 201,
    list: repeated([0x3a, 0], 100),
    says: "cutover_windows: the request has more than 20000 cutover windows in all rules together",
  },
  { rules: 250, list: repeated([0x12, 0], 1000), says: "" },
  { rules: 125, list: repeated([0x12, 0, 0x22, 0], 1000), says: "" },
  {
    rules: 126,
    list: repeated([0x12, 0, 0x22, 0], 1000),
    says: "owners: the request has more than 250000 owners and viewers in all rules together",
  },
])("lists of $rules rules together → $says", ({ rules, list, says }) => {
  const set = inside(0x0a, repeated([...inside(0x1a, list)], rules));
  expect(faultOf(ApplyPolicyRequestSchema, set)).toBe(says === "" ? "" : `policy.rules[${rules - 1}].${says}`);
});

test("a request with all that it may have is decoded", () => {
  const reports = Array.from({ length: 1000 }, () => ({ key: { namespace: "svc.a", name: "b" }, health: 1, load: { activeClients: 5 } }));
  const leaseIds = Array.from({ length: 1000 }, (_, i) => `lease-${i}`);
  expect(faultOf(RenewRequestSchema, toBinary(RenewRequestSchema, create(RenewRequestSchema, { leaseIds, reports })))).toBe("");
});
