import { expect, test } from "vitest";
import { ResolvePolicy } from "../../gen/waymark/discovery/v1/discovery_pb.js";
import { enumName, enumValue, enumWord } from "../../src/lib/enum-words.ts";

test("a word stands for the value of that name, with - for _", () => {
  expect(ResolvePolicy[enumName("load-aware")]).toBe(ResolvePolicy.LOAD_AWARE);
  expect(enumValue(ResolvePolicy, "round-robin")).toBe(ResolvePolicy.ROUND_ROBIN);
  expect(enumWord(ResolvePolicy, ResolvePolicy.ROUND_ROBIN)).toBe("round-robin");
});

test("an absent word is the zero, and the zero has no word", () => {
  expect(enumValue(ResolvePolicy, undefined)).toBe(ResolvePolicy.UNSPECIFIED);
  expect(enumValue(ResolvePolicy, "no-such-word")).toBe(ResolvePolicy.UNSPECIFIED);
  expect(enumWord(ResolvePolicy, 0)).toBe("");
});

test("a value that only a newer program knows is its number", () => {
  expect(enumWord(ResolvePolicy, 99)).toBe("99");
});
