/** The record of journal and links. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { RecordSchema } from "../../../gen/waymark/fabric/v1/fabric_pb.js";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { decodeRecord, encodeRecord, MAX_SEQ, type RecordBody, type RecordHead } from "../../../src/catalog/record/codec.ts";
import type { MaintenanceOverride } from "../../../src/catalog/record/maintenance.ts";
import { BODY, type EntryKey, KIND } from "../../../src/catalog/record/record.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { MAX_STAMP } from "../../../src/lib/hlc.ts";
import { anyChar } from "../../fakes/any-char.ts";
import { runs } from "../../fakes/effort.ts";
import { BOUNDS } from "../../fakes/options.ts";

const HEAD: RecordHead = {
  seq: 300,
  hlc: 1_760_000_000_123 * 2048 + 5,
  reach: SCOPE.REGION,
  filterSeq: 200,
  firstSeq: 1,
  principal: "joe",
};
const KEY: EntryKey = { kind: KIND.QUEUE, namespace: "svc.market", name: "orders", instanceId: "i-1", clusterId: "c1" };

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

const name = fc.stringMatching(/^[A-Za-z0-9._:/@+-]{1,128}$/);
const anyBody: fc.Arbitrary<RecordBody> = fc.oneof(
  fc.uint8Array({ maxLength: 300 }).map((entry) => ({ body: BODY.ENTRY, entry })),
  fc.record({
    body: fc.constantFrom(BODY.EXPIRED, BODY.UNREGISTERED),
    key: fc.record({
      kind: fc.constantFrom(...Object.values(KIND)),
      namespace: fc.constantFrom("svc", "a.b-c.d"),
      name,
      instanceId: name,
      clusterId: fc.constantFrom("c1", "x".repeat(64)),
    }),
  }),
);
const anyOrder: fc.Arbitrary<MaintenanceOverride> = fc.record({
  hlc: fc.integer({ min: 1, max: MAX_STAMP }),
  isOn: fc.boolean(),
  reason: fc.string({ unit: anyChar, maxLength: 60 }).filter((text) => text.isWellFormed()),
  untilMs: fc.maxSafeNat(),
  giver: fc.string({ unit: anyChar, maxLength: 60 }).filter((text) => text.isWellFormed()),
});
const anyHead: fc.Arbitrary<RecordHead> = fc
  .record({
    seq: fc.maxSafeNat().map((n) => Math.max(1, Math.min(n, MAX_SEQ))),
    hlc: fc.maxSafeNat().map((n) => Math.min(n, MAX_STAMP)),
    reach: fc.constantFrom(SCOPE.LOCAL, SCOPE.ZONE, SCOPE.REGION, SCOPE.GLOBAL),
    filterSeq: fc.maxSafeNat(),
    firstSeq: fc.maxSafeNat(),
    principal: fc.string({ unit: anyChar, maxLength: 40 }).filter((text) => text.isWellFormed()),
    unregisteredHlc: fc.option(fc.maxSafeNat(), { nil: undefined }),
    orders: fc.option(
      fc
        .record({ operators: fc.option(anyOrder, { nil: undefined }), owners: fc.option(anyOrder, { nil: undefined }) })
        .filter(({ operators, owners }) => operators !== undefined || owners !== undefined),
      { nil: undefined },
    ),
  })
  .map((fields) => ({
    ...fields,
    filterSeq: Math.min(fields.filterSeq, fields.seq),
    firstSeq: Math.min(fields.firstSeq, fields.seq),
    // 0 is on the wire as none.
    unregisteredHlc: Math.min(fields.unregisteredHlc ?? 0, fields.hlc) || undefined,
  }));

test("the bytes of version 1 never change", () => {
  expect(hex(encodeRecord(HEAD, { body: BODY.ENTRY, entry: Uint8Array.of(10, 0) }))).toBe(
    "08ac021085b08fb096c8b306180320c801280132036a6f653a020a00",
  );
  expect(hex(encodeRecord({ ...HEAD, principal: "" }, { body: BODY.UNREGISTERED, key: KEY }))).toBe(
    "08ac021085b08fb096c8b306180320c801280142230a1f0804120a7376632e6d61726b65741a066f72646572732203692d312a0263311002",
  );
  expect(hex(encodeRecord({ ...HEAD, unregisteredHlc: HEAD.hlc - 5 }, { body: BODY.ENTRY, entry: Uint8Array.of(10, 0) }))).toBe(
    "08ac021085b08fb096c8b306180320c801280132036a6f653a020a004880b08fb096c8b306",
  );
});

function orderOf({ hlc, isOn, reason, untilMs, giver }: MaintenanceOverride) {
  return { hlc: BigInt(hlc), on: isOn, reason, untilMs: BigInt(untilMs), giver };
}

test("protobuf-es reads what we write, and writes the same bytes", () => {
  fc.assert(
    fc.property(anyHead, anyBody, (head, body) => {
      const bytes = encodeRecord(head, body);
      const message = fromBinary(RecordSchema, bytes);
      const { seq, hlc, filterSeq, firstSeq, reach, principal } = head;
      const said =
        body.body === BODY.ENTRY
          ? ({ case: "entry", value: body.entry } as const)
          : ({ case: "tombstone", value: { key: body.key, cause: body.body } } as const);
      const expected = create(RecordSchema, {
        seq: BigInt(seq),
        hlc: BigInt(hlc),
        filterSeq: BigInt(filterSeq),
        firstSeq: BigInt(firstSeq),
        reach,
        principal,
        unregisteredHlc: BigInt(head.unregisteredHlc ?? 0),
        ...(head.orders?.operators !== undefined && { order: orderOf(head.orders.operators) }),
        ...(head.orders?.owners !== undefined && { ownerOrder: orderOf(head.orders.owners) }),
        body: said,
      });
      expect(message).toEqual(expected);
      expect(hex(toBinary(RecordSchema, expected))).toBe(hex(bytes));
    }),
  );
});

test("what is written is read back", () => {
  fc.assert(
    fc.property(anyHead, anyBody, (head, body) => {
      expect(decodeRecord(encodeRecord(head, body), BOUNDS)).toEqual({ ...head, ...body });
    }),
  );
});

test.each([
  { what: "no seq", fields: { seq: 0n, firstSeq: 0n, filterSeq: 0n }, why: "seq 0" },
  { what: "a first seq after its own", fields: { firstSeq: 301n }, why: "first_seq 301" },
  { what: "a filter seq after its own", fields: { filterSeq: 301n }, why: "filter_seq 301" },
  { what: "an hlc above 2^53", fields: { hlc: 2n ** 53n }, why: "varint above 2^53" },
  { what: "no reach", fields: { reach: 0 }, why: "reach 0" },
  { what: "a removal that comes after it", fields: { unregisteredHlc: 2n }, why: "unregistered_hlc 2 is after hlc 1" },
  { what: "a removal above 2^53", fields: { hlc: 1n, unregisteredHlc: 2n ** 53n }, why: "varint above 2^53" },
  { what: "no body", fields: { body: { case: undefined } }, why: "neither an entry nor a tombstone" },
  { what: "a tombstone without a cause", fields: { body: { case: "tombstone", value: { key: KEY } } }, why: "tombstone cause 0" },
  { what: "a tombstone without a key", fields: { body: { case: "tombstone", value: { cause: 1 } } }, why: "the tombstone has no key" },
  {
    what: "a tombstone of no kind",
    fields: { body: { case: "tombstone", value: { key: { ...KEY, kind: 0 }, cause: 1 } } },
    why: "no kind",
  },
  {
    what: "a tombstone of a bad name",
    fields: { body: { case: "tombstone", value: { key: { ...KEY, name: "a b" }, cause: 1 } } },
    why: "key.name",
  },
  { what: "an order without a stamp", fields: { order: { on: true } }, why: "the maintenance override has an invalid timestamp: 0" },
  {
    what: "an order after the year 2100",
    fields: { order: { hlc: BigInt(MAX_STAMP) + 1n } },
    why: "the maintenance override has an invalid timestamp",
  },
  { what: "an order of a long giver", fields: { ownerOrder: { hlc: 1n, giver: "x".repeat(513) } }, why: "a principal of 513 characters" },
  { what: "an order with a long reason", fields: { order: { hlc: 1n, reason: "é".repeat(129) } }, why: "a reason of 258 bytes" },
  { what: "a principal of a megabyte", fields: { principal: "x".repeat(1_000_000) }, why: "principal has 1000000 characters" },
] as const)("a record with $what is refused", ({ fields, why }) => {
  const good = { seq: 300n, hlc: 1n, reach: 3, filterSeq: 1n, firstSeq: 1n, body: { case: "entry" as const, value: Uint8Array.of(1) } };
  const bytes = toBinary(RecordSchema, create(RecordSchema, { ...good, ...fields }));
  expect(() => decodeRecord(bytes, BOUNDS)).toThrow(WaymarkError);
  expect(() => decodeRecord(bytes, BOUNDS)).toThrow(why);
});

test("damaged bytes are refused or read, nothing else", () => {
  fc.assert(
    fc.property(anyHead, anyBody, fc.nat(), fc.nat(255), (head, body, at, byte) => {
      const bytes = encodeRecord(head, body).slice();
      bytes[at % bytes.length] = byte;
      try {
        const { seq, hlc, reach } = decodeRecord(bytes, BOUNDS);
        expect(Number.isSafeInteger(seq) && Number.isSafeInteger(hlc) && reach >= 1 && reach <= 4).toBe(true);
      } catch (error) {
        expect(error).toBeInstanceOf(WaymarkError);
      }
    }),
    { numRuns: runs(1000) },
  );
});

test("a seq that is none is a bug of ours", () => {
  expect(() => encodeRecord({ ...HEAD, seq: 0 }, { body: BODY.EXPIRED, key: KEY })).toThrow("assertion failed");
  expect(() => encodeRecord({ ...HEAD, filterSeq: 301 }, { body: BODY.EXPIRED, key: KEY })).toThrow("assertion failed");
});

test("a record that says two things is refused", () => {
  const one = encodeRecord(HEAD, { body: BODY.ENTRY, entry: Uint8Array.of(1) });
  expect(() => decodeRecord(Uint8Array.of(...one, 0x3a, 1, 2), BOUNDS)).toThrow("more than one body");
  expect(() => decodeRecord(Uint8Array.of(...one, 0x42, 0), BOUNDS)).toThrow("more than one body");
});

test.each([
  { what: "the last seq", more: { seq: MAX_SEQ }, isTaken: true },
  { what: "a seq above", more: { seq: MAX_SEQ + 1 }, isTaken: false },
  { what: "the last stamp", more: { hlc: MAX_STAMP }, isTaken: true },
  { what: "a stamp after it", more: { hlc: MAX_STAMP + 1 }, isTaken: false },
  { what: "the last number there is", more: { hlc: Number.MAX_SAFE_INTEGER }, isTaken: false },
])("nobody takes a record that nothing can be numbered or stamped after: $what", ({ more, isTaken }) => {
  const head = { seq: 1, hlc: 1, reach: SCOPE.ZONE, filterSeq: 0, firstSeq: 0, principal: "", ...more };
  const bytes = encodeRecord(head, { body: BODY.ENTRY, entry: new Uint8Array(3) });
  const read = () => decodeRecord(bytes, BOUNDS).seq;
  if (isTaken) expect(read()).toBe(head.seq);
  else expect(read).toThrow(/is above 2\^52|is after the year 2100/);
});

test("fields of a newer version are kept byte for byte, of the record and of its tombstone", () => {
  // Field 900 with three bytes, field 901 with a number.
  const later = Uint8Array.of(0xa2, 0x38, 3, 9, 8, 7, 0xa8, 0x38, 5);
  const head = { seq: 7, hlc: 9, reach: SCOPE.ZONE, filterSeq: 1, firstSeq: 1, principal: "ann" };
  const key = { kind: KIND.SERVICE, namespace: "svc", name: "web", instanceId: "1", clusterId: "c1" } as const;
  const bodies = [
    { body: BODY.ENTRY, entry: Uint8Array.of(1, 2) },
    { body: BODY.EXPIRED, key },
  ] as const;
  for (const body of bodies) {
    const unknown = { record: later, tombstone: body.body === BODY.ENTRY ? new Uint8Array() : later };
    const bytes = encodeRecord(head, body, unknown).slice();
    const read = decodeRecord(bytes, BOUNDS);
    expect(read.unknown).toEqual(unknown);
    expect(encodeRecord(read, read, read.unknown)).toEqual(bytes);
  }
});
