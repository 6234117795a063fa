import { expect, test } from "vitest";
import { differing, isHead, isWithin, MAX_NUMBER_STEP, nameOf } from "../../src/fabric/policy-link.ts";
import { NO_PLACE } from "../../src/policy/versions/version.ts";
import { version } from "../fakes/policy-versions.ts";

const { head } = version(3, "n");

test.each([
  { what: "of a version", change: {}, is: true },
  { what: "of none", change: NO_PLACE, is: true },
  { what: "of what a node began with", change: { number: 1, hlc: 0 }, is: true },
  { what: "of a node with the longest id", change: { nodeId: "n".repeat(64) }, is: true },
  { what: "below zero", change: { number: -1 }, is: false },
  { what: "with a part of a number", change: { number: 1.5 }, is: false },
  { what: "with a stamp below zero", change: { hlc: -1 }, is: false },
  { what: "with a checksum that is none", change: { checksum: "x" }, is: false },
  { what: "with a node id that is too long", change: { nodeId: "n".repeat(65) }, is: false },
])("a head $what is one: $is", ({ change, is }) => {
  expect(isHead({ ...head, ...change })).toBe(is);
});

test("a number may follow ours by a bounded step, and without ours be any below 2^52", () => {
  const numbers = [5 + MAX_NUMBER_STEP, 6 + MAX_NUMBER_STEP];
  expect(numbers.map((number) => isWithin({ ...head, number }, 5))).toEqual([true, false]);
  expect([2 ** 52 - 1, 2 ** 52].map((number) => isWithin({ ...head, number }, 0))).toEqual([true, false]);
});

test("a version is told apart from what its head says, and heads by all that they say", () => {
  expect(differing(head, head)).toBe("");
  expect(differing(head, { ...head, nodeId: "" })).toBe('the content is version 3 of node "", which does not match the offered head');
  expect(new Set([head, { ...head, hlc: 1 }, { ...head, nodeId: "m" }, version(4, "n").head].map(nameOf)).size).toBe(4);
});
