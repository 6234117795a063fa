/** Which subjects a topic's patterns stand for. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { matchesSubject, parsePattern, parseSubject } from "../../../src/catalog/entry/topic-patterns.ts";

const matches = (pattern: string, subject: string) => matchesSubject(parsePattern(pattern) ?? ["?"], parseSubject(subject) ?? []);

test.each([
  ["orders", "orders", true],
  ["orders", "orders.eu", false],
  ["orders.*", "orders.eu", true],
  ["orders.*", "orders", false],
  ["orders.*", "orders.eu.de", false],
  ["*.eu", "orders.eu", true],
  ["orders.#", "orders", true],
  ["orders.#", "orders.eu.de", true],
  ["orders.>", "orders", false],
  ["orders.>", "orders.eu", true],
  ["orders.>", "orders.eu.de", true],
  ["#.de", "orders.eu.de", true],
  ["#.de", "de", true],
  ["orders.#.de", "orders.de", true],
  ["orders.#.de", "orders.eu.at", false],
  ["#", "anything.at.all", true],
  ["Orders", "orders", false],
])("%s stands for %s: %s", (pattern, subject, want) => {
  expect(matches(pattern, subject)).toBe(want);
});

test.each(["", ".", "a.", ".a", "a..b", "a b", "or*", "a#", ">.a", "a".repeat(257)])("%s is no pattern", (text) => {
  expect(parsePattern(text)).toBeUndefined();
});

test.each(["", "a.*", "#", "a.>", "a..b", "a\tb"])("%s is no subject", (text) => {
  expect(parseSubject(text)).toBeUndefined();
});

test("a pattern matches as the regular expression that says the same", () => {
  const word = fc.constantFrom("a", "b", "*", "#");
  const subject = fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(fc.array(word, { minLength: 1, maxLength: 6 }), subject, (pattern, words) => {
      const source = pattern.map((each) => (each === "#" ? "(?:[a-c]\\.)*" : each === "*" ? "[a-c]\\." : `${each}\\.`)).join("");
      expect(matches(pattern.join("."), words.join("."))).toBe(new RegExp(`^${source}$`).test(`${words.join(".")}.`));
    }),
  );
});

test.each([
  { pattern: "#.".concat("*.#.".repeat(60), "zz"), atMost: 512 },
  { pattern: "#.a.".repeat(60).concat("b"), atMost: 512 },
  { pattern: "#.".concat("a.".repeat(60), "b"), atMost: 128 * 64 },
])("the words looked at for a hostile pattern are few: $pattern", ({ pattern, atMost }) => {
  const tally = { steps: 0 };
  expect(matchesSubject(parsePattern(pattern) ?? ["?"], parseSubject("a.".repeat(127).concat("a")) ?? [], tally)).toBe(false);
  expect(tally.steps).toBeLessThan(atMost);
});

test("a hostile pattern costs no more than its length", () => {
  const pattern = Array.from({ length: 128 }, () => "#").join(".");
  expect(matches(pattern, Array.from({ length: 100 }, () => "a").join("."))).toBe(true);
});
