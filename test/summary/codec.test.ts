/** What clusters sign, as bytes: what is written is read, whatever else comes is refused by the name of its field, and signed bytes stay as they are. */
import { create, fromBinary, toBinary, toJson } from "@bufbuild/protobuf";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { ServiceSummarySchema } from "../../gen/waymark/catalog/v1/summary_pb.js";
import { BeaconSchema, KeyAnnouncementSchema, SealedRecordSchema } from "../../gen/waymark/fabric/v1/fabric_pb.js";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { WaymarkError } from "../../src/lib/errors.ts";
import { readAnnouncement } from "../../src/signing/codec.ts";
import {
  decodeAnnouncement,
  decodeBeacon,
  decodeRecord,
  decodeSummary,
  encodeBeacon,
  encodeRecord,
  encodeSummary,
  fitting,
  MAX_BEACON_BYTES,
  opened,
} from "../../src/summary/codec.ts";
import type { Summary } from "../../src/summary/summary.ts";
import { BAD_ANNOUNCEMENTS, BAD_BEACONS, BAD_SUMMARIES, PLAIN_SUMMARY } from "../fakes/bad-signed.ts";
import { runs } from "../fakes/effort.ts";
import {
  ANNOUNCEMENT,
  anyAnnouncement,
  anyBeacon,
  anySealed,
  anySummary,
  BEACON,
  SUMMARY,
  sealedAs,
  WITHDRAWAL,
} from "../fakes/summaries.ts";

/** A value of each sort, and its ways to bytes and back. */
const anySigned = fc.oneof(
  anySummary.map((value) => ({ what: "summary" as const, value, signed: encodeSummary(value), read: decodeSummary })),
  anyBeacon.map((value) => ({ what: "beacon" as const, value, signed: encodeBeacon(value), read: decodeBeacon })),
  anyAnnouncement.map((signed) => ({ what: "key" as const, value: readAnnouncement(signed), signed, read: decodeAnnouncement })),
);

function expectReadOrRefused(run: () => unknown): void {
  try {
    run();
  } catch (error) {
    expect(error).toBeInstanceOf(WaymarkError);
    expect((error as WaymarkError).reason).toBe("invalid_argument");
  }
}

test("what is written is read, and its bytes travel as they were made", () => {
  fc.assert(
    fc.property(
      anySigned.chain((of) => anySealed(of.signed).map((sealed) => ({ ...of, sealed }))),
      ({ what, value, signed, read, sealed }) => {
        expect(read(signed)).toEqual(value);
        const again = decodeRecord(encodeRecord(what, sealed));
        expect(again).toEqual({ what, sealed, [what]: value });
        expect(opened(what, sealed)).toEqual(again);
      },
    ),
  );
});

test("cut anywhere, or with bytes changed, what was signed is read or refused", () => {
  const changes = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(anySigned, fc.nat(), changes, ({ what, signed, read }, cut, changed) => {
      const bytes = encodeRecord(what, sealedAs(signed));
      expectReadOrRefused(() => read(signed.subarray(0, cut % (signed.length + 1))));
      expectReadOrRefused(() => decodeRecord(bytes.subarray(0, cut % (bytes.length + 1))));
      for (const text of [Uint8Array.from(signed), bytes]) {
        for (const [at, value] of changed) text[at % text.length] = value;
        expectReadOrRefused(() => (text === bytes ? decodeRecord(text) : read(text)));
      }
    }),
  );
});

test.each([
  { field: "ttl", at: 7, says: "ttl is there twice" },
  { field: "generated_at", at: 8, says: "generated_at is there twice" },
  { field: "not_after", at: 17, says: "not_after appears twice" },
])("a second $field is refused, because readers of protobuf would merge the two", ({ at: number, says }) => {
  // 5,000,000,000 nanoseconds: the last time alone is good.
  const nanos = Uint8Array.of(0x10, 0x80, 0xe4, 0x97, 0xd0, 0x12);
  const first = new BinaryWriter().tag(number, WireType.LengthDelimited).bytes(nanos).finish();
  const signed = new Uint8Array(Buffer.concat([first, encodeSummary({ ...SUMMARY, notAfterWallMs: 1_000 })]));
  expect(() => decodeSummary(signed)).toThrow(says);
});

/** A field of a summary with any value, as a stranger may sign it, and fields of later versions. */
const anyField = fc
  .tuple(fc.integer({ min: 1, max: 27 }), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.nat(4), fc.uint8Array({ maxLength: 12 }))
  .map(([number, value, type, bytes]) => {
    const writer = new BinaryWriter();
    const small = value >> BigInt(8 * (type + 3));
    if (type === 1) return writer.tag(number, WireType.Bit64).fixed64(value).finish();
    if (type === 2) return writer.tag(number, WireType.LengthDelimited).bytes(bytes).finish();
    if (type > 2) {
      const time = new BinaryWriter()
        .tag(type - 2, WireType.Varint)
        .uint64(small)
        .finish();
      return writer.tag(number, WireType.LengthDelimited).bytes(time).finish();
    }
    return writer.tag(number, WireType.Varint).uint64(small).finish();
  });

test("a summary that is read says the same to every reader of protobuf, also where its fields are there twice", () => {
  let readCount = 0;
  fc.assert(
    fc.property(anySummary, fc.array(anyField, { maxLength: 2 }), fc.array(anyField, { maxLength: 2 }), (summary, before, after) => {
      const signed = new Uint8Array(Buffer.concat([...before, encodeSummary(summary), ...after]));
      let read: Summary;
      try {
        read = decodeSummary(signed);
      } catch {
        return;
      }
      readCount += before.length + after.length;
      const message = fromBinary(ServiceSummarySchema, signed);
      expect(() => toJson(ServiceSummarySchema, message)).not.toThrow();
      expect(decodeSummary(toBinary(ServiceSummarySchema, message))).toEqual(read);
    }),
    { numRuns: runs(2_000) },
  );
  expect(readCount).toBeGreaterThan(20);
});

test("an unknown field of a later version stays in the bytes, and is passed over", () => {
  const later = Buffer.of(0x98, 0x06, 1, 0x9a, 0x06, 2, 7, 7);
  const signed = new Uint8Array(Buffer.concat([encodeSummary(SUMMARY), later]));
  const record = decodeRecord(encodeRecord("summary", sealedAs(signed)));
  expect(record).toEqual({ what: "summary", summary: SUMMARY, sealed: sealedAs(signed) });
});

describe("a bad field is refused by its name", () => {
  test.each(BAD_SUMMARIES)("%s of a summary: %o", (field, change) => {
    const signed = toBinary(ServiceSummarySchema, create(ServiceSummarySchema, { ...PLAIN_SUMMARY, ...change }));
    expect(() => decodeSummary(signed)).toThrow(`invalid_argument: ${field}: `);
  });

  test.each(BAD_BEACONS)("%s of a beacon: %o", (field, change) => {
    const beacon = { sourceCluster: "eu-1", region: "eu", exporter: "n1", version: 1n, ttlMs: 1n, ...change };
    expect(() => decodeBeacon(toBinary(BeaconSchema, create(BeaconSchema, beacon)))).toThrow(`invalid_argument: ${field}: `);
  });

  test.each(BAD_ANNOUNCEMENTS)("%s of an announcement: %o", (field, change) => {
    const signed = toBinary(KeyAnnouncementSchema, Object.assign(fromBinary(KeyAnnouncementSchema, ANNOUNCEMENT), change));
    expect(() => decodeAnnouncement(signed)).toThrow(`invalid_argument: ${field}: `);
  });

  const signedText = encodeSummary(SUMMARY);
  test.each([
    { field: "content", content: { case: undefined } },
    { field: "signature", content: { case: "summary" as const, value: { signedText, signature: new Uint8Array(63) } } },
    { field: "summary.signature", content: { case: "summary" as const, value: { signedText, signature: new Uint8Array(65) } } },
    { field: "summary.hops", content: { case: "summary" as const, value: { signedText, hops: 9 } } },
    { field: "key.signed_text", content: { case: "key" as const, value: { signedText: new Uint8Array(MAX_BEACON_BYTES + 1) } } },
  ])("$field of a record", ({ field, content }) => {
    const bytes = toBinary(SealedRecordSchema, create(SealedRecordSchema, { content }));
    expect(() => decodeRecord(bytes)).toThrow(`invalid_argument: ${field}: `);
  });
});

describe("nobody signs what nobody would take", () => {
  test.each<[field: string, change: Partial<Summary>]>([
    ["version", { version: 0 }],
    ["regions[0]", { regions: ["a b"] }],
    ["signed_text", { regions: Array.from({ length: 64 }, () => "r".repeat(64)) }],
  ])("%s of a summary", (field, change) => {
    expect(() => encodeSummary({ ...SUMMARY, ...change })).toThrow(`invalid_argument: ${field}: `);
  });

  test("a beacon has room for the ordinary, and leaves out the last of what is longer", () => {
    expect(fitting(BEACON)).toEqual(BEACON);
    const full = { ...BEACON, withdrawals: Array.from({ length: 100 }, (_, i) => ({ ...WITHDRAWAL, version: i + 1 })) };
    expect(fitting(full)).toEqual(full);
    const node = { urls: Array.from({ length: 8 }, () => `https://${"x".repeat(470)}`), scope: SCOPE.GLOBAL, capabilities: [], tags: [] };
    const ingress = Array.from({ length: 8 }, () => node);
    const long = { ...full, ingress };
    expect(() => encodeBeacon(long)).toThrow("invalid_argument: signed_text: ");
    const fits = fitting(long);
    expect(decodeBeacon(encodeBeacon(fits))).toEqual({ ...long, withdrawals: full.withdrawals.slice(0, 50) });
    const crowded = fitting({ ...full, ingress: Array.from({ length: 4 }, () => ingress).flat() });
    expect([crowded.withdrawals.length, crowded.ingress.length]).toEqual([0, 8]);
    expect(() => encodeBeacon({ ...BEACON, ingress: Array.from({ length: 33 }, () => BEACON.ingress).flat() })).toThrow(
      "invalid_argument: ingress: ",
    );
    expect(() => encodeBeacon({ ...BEACON, withdrawals: Array.from({ length: 101 }, () => WITHDRAWAL) })).toThrow(
      "invalid_argument: withdrawals: ",
    );
  });
});
