import fc from "fast-check";
import { expect, test } from "vitest";
import { isNewer, isSamePlace, NO_PLACE, type VersionPlace } from "../../../src/policy/versions/version.ts";

const place = (number: number, hlc = 1, nodeId = "a", checksum = "00"): VersionPlace => ({ number, hlc, nodeId, checksum });

test.each([
  { what: "the number", less: place(1, 9, "z", "ff"), more: place(2) },
  { what: "then the stamp", less: place(2, 1, "z", "ff"), more: place(2, 2) },
  { what: "then the node id", less: place(2, 2, "a", "ff"), more: place(2, 2, "b") },
  { what: "then the checksum", less: place(2, 2, "b", "00"), more: place(2, 2, "b", "01") },
  { what: "and none is less than all", less: NO_PLACE, more: place(1, 0, "", "") },
])("$what decides", ({ less, more }) => {
  expect([isNewer(more, less), isNewer(less, more), isNewer(more, more)]).toEqual([true, false, false]);
});

test("of any two places one is newer, or they are the same", () => {
  const any = fc.record({ number: fc.nat(2), hlc: fc.nat(2), nodeId: fc.constantFrom("a", "b"), checksum: fc.constantFrom("0", "1") });
  fc.assert(
    fc.property(any, any, (a, b) => {
      expect([isNewer(a, b), isNewer(b, a), isSamePlace(a, b)].filter(Boolean)).toHaveLength(1);
    }),
  );
});
