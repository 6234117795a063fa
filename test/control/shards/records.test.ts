/** The records of shards in the control store, as bytes and as values. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { encodeRecord } from "../../../src/control/leadership/records.ts";
import {
  APPROVALS,
  decodeChange,
  decodeOwner,
  decodeSet,
  historyKey,
  MAX_SHARDS,
  NO_LOAD,
  OWNER_HEALTH,
  type OwnerRecord,
  ownerJson,
  ownerKey,
  rangesOf,
  rowKey,
  STORE_LOSS,
  STRATEGIES,
} from "../../../src/control/shards/records.ts";

const text = fc.string({ unit: "grapheme", maxLength: 20 });
const count = fc.maxSafeNat();
const ids = fc.uniqueArray(fc.integer({ min: 0, max: MAX_SHARDS - 1 }), { maxLength: 60 }).map((list) => new Set(list));
const owner: fc.Arbitrary<OwnerRecord> = fc.record({
  session: text,
  nodeId: text,
  created: fc.integer({ min: 1 }),
  principal: text,
  target: text,
  weight: fc.double({ min: 0.001, max: 1000, noNaN: true }),
  zone: text,
  region: text,
  slots: count,
  isLeaving: fc.boolean(),
  health: fc.constantFrom(...OWNER_HEALTH),
  load: fc.record({
    depth: fc.nat(),
    latencyMs: fc.nat(),
    errorRatio: fc.double({ min: 0, max: 1, noNaN: true }),
    items: fc.nat(),
    hottest: fc.array(fc.tuple(fc.nat(), fc.nat()), { maxLength: 20 }),
  }),
  prepared: ids,
  held: ids,
});
const set = fc.record({
  count: fc.integer({ min: 0, max: MAX_SHARDS }),
  strategy: fc.constantFrom(...STRATEGIES),
  service: text,
  approval: fc.constantFrom(...APPROVALS),
  onStoreLoss: fc.constantFrom(...STORE_LOSS),
  maxParallelMoves: fc.integer({ min: 1, max: 1000 }),
  cooldownMs: count,
  prepareMs: count,
  maxDepth: fc.nat(),
  maxLatencyMs: fc.nat(),
  maxErrorRatio: fc.nat(),
  overloadMs: count,
  frozenUntilWallMs: count,
  isDeleted: fc.boolean(),
  drainMs: count,
  epoch: count,
  rowsEpoch: count,
  checksum: text,
  oldestEpoch: count,
});
const state = fc.record({ owner: text, next: text, fence: text, status: text });
const change = fc.record({
  epoch: count,
  wallMs: count,
  actor: text,
  reason: text,
  ticket: text,
  rows: fc.array(fc.record({ id: count, before: state, after: state }), { maxLength: 5 }),
});

function json(value: unknown): Uint8Array {
  return new TextEncoder().encode(JSON.stringify(value));
}

test("what is encoded is decoded again", () => {
  fc.assert(
    fc.property(owner, set, change, (anOwner, aSet, aChange) => {
      expect(decodeOwner(encodeRecord(ownerJson(anOwner)), 9)).toEqual(anOwner);
      expect(decodeSet(encodeRecord(aSet))).toEqual(aSet);
      expect(decodeChange(encodeRecord(aChange))).toEqual(aChange);
    }),
  );
});

test.each([
  [[], []],
  [[7], ["7"]],
  [
    [3, 1, 2, 9, 0],
    ["0-3", "9"],
  ],
  [[5, 5, 6], ["5-6"]],
  [
    [9999, 9998, 0],
    ["0", "9998-9999"],
  ],
])("the ids %o are the ranges %o", (list, ranges) => expect(rangesOf(list)).toEqual(ranges));

test("an owner of all shards has a small record", () => {
  const held = new Set(Array.from({ length: MAX_SHARDS }, (_, id) => id));
  const [record = expect.fail("a sample")] = fc.sample(owner, 1);
  expect(ownerJson({ ...record, held })).toMatchObject({ held: ["0-9999"] });
});

test("a new record states no version at which it was created, so it is that of the item", () => {
  const [record = expect.fail("a sample")] = fc.sample(owner, 1);
  const created = encodeRecord(ownerJson({ ...record, created: 0 }));
  expect([decodeOwner(created, 41)?.created, decodeOwner(encodeRecord(ownerJson(record)), 41)?.created]).toEqual([41, record.created]);
});

test("a set has at most 10,000 shards, even if its record states more", () => {
  const [record = expect.fail("a sample")] = fc.sample(set, 1);
  expect(decodeSet(encodeRecord({ ...record, count: 10_001 }))?.count).toBe(MAX_SHARDS);
});

const OWNER = ownerJson({
  session: "n1/1-b",
  nodeId: "n1",
  created: 1,
  principal: "",
  target: "",
  weight: 1,
  zone: "",
  region: "",
  slots: 0,
  isLeaving: false,
  health: "healthy",
  load: NO_LOAD,
  prepared: new Set(),
  held: new Set([1]),
});
test.each([
  ["no bytes", new Uint8Array()],
  ["no UTF-8", Uint8Array.of(0x22, 0xff, 0x22)],
  ["no JSON", new TextEncoder().encode("{")],
  ["null", new TextEncoder().encode("null")],
  ["a missing field", json({ ...OWNER, target: undefined })],
  ["a weight of 0", json({ ...OWNER, weight: 0 })],
  ["a negative weight", json({ ...OWNER, weight: -1 })],
  ["a text as a flag", json({ ...OWNER, isLeaving: "no" })],
  ["held ids that are no list", json({ ...OWNER, held: "1" })],
  ["a number as a range", json({ ...OWNER, held: [1] })],
  ["a negative id", json({ ...OWNER, held: ["-1"] })],
  ["an id above 9,999", json({ ...OWNER, prepared: ["10000"] })],
  ["a range without an end", json({ ...OWNER, held: ["1-"] })],
  ["more than 64 KiB", json({ ...OWNER, later: "x".repeat(70_000) })],
])("%s is no record", (_, bytes) => {
  expect([decodeOwner(bytes, 9), decodeSet(bytes), decodeChange(bytes)]).toEqual([undefined, undefined, undefined]);
});

test.each([
  ["an unknown strategy", { strategy: "random" }],
  ["an unknown approval", { approval: "all" }],
  ["an unknown behavior without a store", { onStoreLoss: "wait" }],
  ["no parallel moves", { maxParallelMoves: 0 }],
])("a set with %s is no record", (_, fields) => {
  const [record = expect.fail("a sample")] = fc.sample(set, 1);
  expect(decodeSet(json({ ...record, ...fields }))).toBeUndefined();
});

test("a range that goes backwards has no ids, and random bytes are no record and no error", () => {
  expect(decodeOwner(json({ ...OWNER, held: ["7-5"] }), 9)?.held.size).toBe(0);
  const bytes = fc.oneof(
    fc.uint8Array(),
    fc.json().map((each) => new TextEncoder().encode(each)),
  );
  fc.assert(
    fc.property(bytes, (each) => {
      expect([decodeOwner(each, 9), decodeSet(each), decodeChange(each)]).toEqual([undefined, undefined, undefined]);
    }),
  );
});

test("keys are readable, and the keys of changes have the order of their epochs", () => {
  expect([rowKey("orders", 12), ownerKey("orders", "a")]).toEqual(["leaders/shard/orders/12", "owners/orders/a"]);
  const keys = [2, 10, 9, 123_456].map((epoch) => historyKey("orders", epoch));
  expect(keys.toSorted()).toEqual([2, 9, 10, 123_456].map((epoch) => historyKey("orders", epoch)));
});
