/** Frames of records: the bytes protobuf-es would write, once for all links, read without copies. */
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { expect, test } from "vitest";
import { LinkRequestSchema } from "../../../gen/waymark/fabric/v1/fabric_pb.js";
import { encodeRecord } from "../../../src/catalog/record/codec.ts";
import { BODY } from "../../../src/catalog/record/record.ts";
import { decodeLinkFrame, encodeRecords } from "../../../src/fabric/wire/codec.ts";
import { framed } from "../../../src/grpc/wire/message-reader.ts";
import { anyRecords } from "../../fakes/fabric-messages.ts";

/** Bytes protobuf-es writes back as they are: a record with every field in order. */
const anyRecord = fc
  .record({ seq: fc.integer({ min: 1 }), hlc: fc.maxSafeNat(), entry: fc.constantFrom("", "0a00", "120176") })
  .map(({ seq, hlc, entry }) =>
    encodeRecord(
      { seq, hlc, reach: 2, filterSeq: 1, firstSeq: 1, principal: "ann" },
      { body: BODY.ENTRY, entry: Buffer.from(entry, "hex") },
    ),
  );

test("protobuf-es writes the same bytes", () => {
  fc.assert(
    fc.property(anyRecords, fc.array(anyRecord, { maxLength: 5 }), (message, records) => {
      const { frame, clusterId, region } = message;
      const { message: bytes, framed: onWire } = encodeRecords({ ...message, frame: { ...frame, records } });
      expect(Buffer.from(onWire).equals(framed(bytes))).toBe(true);
      const value = {
        origin: { nodeId: frame.nodeId, generation: BigInt(frame.generation) },
        after: BigInt(frame.after),
        through: BigInt(frame.through),
        complete: frame.isComplete,
        floor: BigInt(frame.floor),
        last: frame.isLast,
        clusterId,
        region,
        known: BigInt(frame.knownSeq ?? 0),
      };
      const empty = toBinary(LinkRequestSchema, create(LinkRequestSchema, { frame: { frame: { case: "records", value } } }));
      if (records.length === 0) expect(new Uint8Array(bytes)).toEqual(empty);
      else expect(bytes.length).toBeGreaterThan(empty.length);
      expect(decodeLinkFrame(bytes)).toEqual({ ...message, frame: { ...frame, records } });
    }),
  );
});

test("a frame is encoded once, whoever sends it", () => {
  const frame = { nodeId: "n1", generation: 1, after: 0, through: 1, records: [], isComplete: false, isLast: false, floor: 0 };
  const message = { kind: "records" as const, frame, clusterId: "c1", region: "eu" };
  expect(encodeRecords({ ...message })).toBe(encodeRecords({ ...message }));
  expect(encodeRecords({ ...message, frame: { ...frame } })).not.toBe(encodeRecords(message));
});

test("a frame has no more bytes of records than any version sends, unless it has one record alone", () => {
  const frame = { nodeId: "n1", generation: 1, after: 0, through: 9, isComplete: false, isLast: false, floor: 0 };
  const read = (...sizes: readonly number[]) => {
    const records = sizes.map((size) => new Uint8Array(size));
    return decodeLinkFrame(encodeRecords({ kind: "records", frame: { ...frame, records }, clusterId: "c1", region: "eu" }).message);
  };
  expect(read(65_535, 1).kind).toBe("records");
  expect(read(100_000).kind).toBe("records");
  expect(() => read(65_535, 2)).toThrow("records.bytes: must be at most 65536, not 65537");
  expect(() => read(100_000, 0)).toThrow("records.bytes: must be at most 65536, not 100000");
});

test("records that were read are views of what was received", () => {
  const record = encodeRecord(
    { seq: 1, hlc: 1, reach: 2, filterSeq: 1, firstSeq: 1, principal: "" },
    { body: BODY.ENTRY, entry: Uint8Array.of(10, 0) },
  );
  const frame = { nodeId: "n1", generation: 1, after: 0, through: 1, records: [record], isComplete: false, isLast: false, floor: 0 };
  const { message: bytes } = encodeRecords({ kind: "records", frame, clusterId: "c1", region: "eu" });
  const read = decodeLinkFrame(bytes);
  expect(read.kind === "records" && read.frame.records[0]?.buffer).toBe(bytes.buffer);
  expect(read).toMatchObject({ frame });
});
