/** The records of leadership in the control store, as bytes and as values. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { decodeLeader, decodeSession, decodeStore, encodeRecord } from "../../../src/control/leadership/records.ts";

const text = fc.string({ unit: "grapheme", maxLength: 30 });
const count = fc.maxSafeNat();
const leader = fc.record({
  holderId: text,
  nodeId: text,
  session: text,
  term: count,
  fence: fc.record({ failoverVersion: count, storeEpoch: count, number: count }),
  issuedWallMs: count,
  reason: text,
  correlationId: text,
  resign: fc.option(fc.string({ minLength: 1, maxLength: 30 }), { nil: undefined }),
});

function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

test("what is encoded is decoded again", () => {
  fc.assert(
    fc.property(leader, (record) => {
      expect(decodeLeader(encodeRecord(record), 0)).toEqual(record);
    }),
  );
  const store = fc.record({ clusterId: text, id: text, epoch: count });
  fc.assert(
    fc.property(store, (record) => {
      expect(decodeStore(encodeRecord(record))).toEqual(record);
    }),
  );
  const session = fc.record({ nodeId: text, leaseMs: fc.integer({ min: 1500, max: 60_000 }), renewedWallMs: count });
  fc.assert(
    fc.property(session, (record) => {
      expect(decodeSession(encodeRecord(record))).toEqual(record);
    }),
  );
});

test("a long reason is cut, so that the record can be read", () => {
  const long = "x".repeat(2000);
  const [record = expect.fail("a sample")] = fc.sample(leader, 1);
  const read = decodeLeader(encodeRecord({ ...record, reason: long, resign: long }), 0);
  expect([read?.reason.length, read?.resign?.length]).toEqual([1024, 1024]);
});

test.each([
  ["a lease below the bounds", 1, 1500],
  ["a lease above the bounds", 1e9, 60_000],
])("%s is moved to the bound", (_, lease, leaseMs) => {
  expect(decodeSession(json({ nodeId: "n", leaseMs: lease, renewedWallMs: 0 }))?.leaseMs).toBe(leaseMs);
});

const GOOD = { clusterId: "c", id: "s", epoch: 1 };
test.each([
  ["no bytes", new Uint8Array()],
  ["no UTF-8", Uint8Array.of(0x22, 0xff, 0x22)],
  ["no JSON", new TextEncoder().encode("{")],
  ["null", new TextEncoder().encode("null")],
  ["a list", json([1, 2])],
  ["a text", json("store")],
  ["a missing field", json({ ...GOOD, id: undefined })],
  ["a wrong type", json({ ...GOOD, id: 1 })],
  ["a fraction", json({ ...GOOD, epoch: 0.5 })],
  ["a negative count", json({ ...GOOD, epoch: -1 })],
  ["a count beyond 2^53", json({ ...GOOD, epoch: 2 ** 53 })],
  ["a text of more than 1,024 characters", json({ ...GOOD, id: "x".repeat(1025) })],
  ["more than 64 KiB", json({ ...GOOD, later: "x".repeat(70_000) })],
])("%s is no record", (_, bytes) => {
  expect([decodeStore(bytes), decodeLeader(bytes, 0), decodeSession(bytes)]).toEqual([undefined, undefined, undefined]);
});

test("unknown fields are ignored, and random bytes are no record and no error", () => {
  expect(decodeStore(json({ ...GOOD, later: [] }))).toEqual({ clusterId: "c", id: "s", epoch: 1 });
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array(),
        fc.json().map((each) => new TextEncoder().encode(each)),
      ),
      (bytes) => {
        expect(decodeLeader(bytes, 0)).toBeUndefined();
      },
    ),
  );
});
