import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { FenceSchema } from "../../gen/waymark/control/v1/fence_pb.js";
import { compareFences, type FenceToken, fenceText, parseFence } from "../../src/lib/fence.ts";

function fence(failoverVersion: number, storeEpoch: number, number: number): FenceToken {
  return { failoverVersion, storeEpoch, number };
}

test.each([
  { what: "an equal fence", a: fence(0, 1, 7), b: fence(0, 1, 7), want: 0 },
  { what: "a later number", a: fence(0, 1, 7), b: fence(0, 1, 8), want: -1 },
  { what: "a later epoch of the store with an earlier number", a: fence(0, 1, 7), b: fence(0, 2, 1), want: -1 },
  { what: "a later failover with an earlier epoch and number", a: fence(0, 9, 7), b: fence(1, 1, 1), want: -1 },
  { what: "an earlier number of an earlier epoch", a: fence(0, 2, 3), b: fence(0, 1, 2), want: 1 },
  {
    what: "numbers near the greatest exact one",
    a: fence(0, 0, Number.MAX_SAFE_INTEGER),
    b: fence(0, 0, Number.MAX_SAFE_INTEGER - 1),
    want: 1,
  },
])("$what: compared by failover version, store epoch and number, in this order", ({ a, b, want }) => {
  expect([Math.sign(compareFences(a, b)), Math.sign(compareFences(b, a))]).toEqual([want, want === 0 ? 0 : -want]);
});

test("fences of every kind sort into the order of their holders", () => {
  const ordered = [fence(0, 0, 1), fence(0, 0, 2), fence(0, 1, 1), fence(0, 1, 5), fence(1, 0, 1), fence(1, 3, 2)];
  expect(ordered.toReversed().toSorted(compareFences)).toEqual(ordered);
});

test("the message of the contract has the three parts under their numbers", () => {
  const bytes = toBinary(FenceSchema, create(FenceSchema, { failoverVersion: 1n, storeEpoch: 2n, number: 3n }));
  expect([...bytes]).toEqual([0x08, 1, 0x10, 2, 0x18, 3]);
  expect(fromBinary(FenceSchema, bytes)).toMatchObject({ failoverVersion: 1n, storeEpoch: 2n, number: 3n });
});

test("the text of a fence names its scope, and is parsed as it was written", () => {
  const text = fenceText("custom/orders/cleaner", fence(0, 1_796_005_228, 67));
  expect(text).toBe("custom/orders/cleaner;0.1796005228.67");
  expect(parseFence(text)).toEqual({ scope: "custom/orders/cleaner", fence: fence(0, 1_796_005_228, 67) });
});

test.each([
  "",
  "undefined",
  "0.1.2",
  ";0.1.2",
  "a;0.1",
  "a;0.1.2.3",
  "a;0.1.-2",
  "a;0.1.2x",
  "a;0.1.0x7",
  "a;0.1.9007199254740993",
  "a;b;0.1.2",
])("%s is no fence", (text) => {
  expect(parseFence(text)).toBeUndefined();
});
