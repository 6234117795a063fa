/** What a field from another node may be. */
import { expect, test } from "vitest";
import { addressField, detailField, idField, MESSAGE_BOUNDS, numberField, optionalIdField } from "../../../src/fabric/wire/validation.ts";

test.each(["127.0.0.1:1", "node-1.example:65535", "[::1]:17421", "[fe80::1%eth0]:5", `${"x".repeat(253)}:65535`])(
  "%s is an address",
  (text) => {
    expect(addressField(text, "address", MESSAGE_BOUNDS)).toBe(text);
  },
);

test.each([
  "",
  "host",
  "host:",
  "host:0",
  "host:65536",
  "host:1x",
  ":1",
  "::1:17421",
  "[]:1",
  "a b:1",
  "[::1]",
  `${"x".repeat(300)}:1`,
  "h:1\n",
])("%j is not", (text) => {
  expect(() => addressField(text, "address", MESSAGE_BOUNDS)).toThrow("invalid_argument: address: ");
});

test("an id may be missing only where that means something", () => {
  expect(optionalIdField("", "zone", MESSAGE_BOUNDS)).toBe("");
  expect(() => idField("", "zone", MESSAGE_BOUNDS)).toThrow("invalid_argument: zone: ");
  expect(() => optionalIdField("a b", "zone", MESSAGE_BOUNDS)).toThrow("invalid_argument: zone: ");
});

test("numbers are exact or refused", () => {
  expect(numberField(2n ** 53n - 1n, "seq")).toBe(Number.MAX_SAFE_INTEGER);
  expect(() => numberField(2n ** 53n, "seq")).toThrow("invalid_argument: seq: 9007199254740992 must be at most 2^53 - 1");
});

test("what a peer says to people is cut, and plays no tricks with a terminal", () => {
  expect(detailField(`\u001b[2J${"x".repeat(300)}`, MESSAGE_BOUNDS)).toBe(`?[2J${"x".repeat(252)}`);
});
