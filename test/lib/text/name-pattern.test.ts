/** Patterns with a `*`, against names. */
import { expect, test } from "vitest";
import { matchesNamePattern } from "../../../src/lib/text/name-pattern.ts";

test.each([
  { pattern: "web", name: "web", want: true },
  { pattern: "web", name: "web2", want: false },
  { pattern: "spiffe://prod.example/ns/market/*", name: "spiffe://prod.example/ns/market/sa/web", want: true },
  { pattern: "spiffe://prod.example/ns/market/*", name: "spiffe://prod.example/ns/marketing/sa/web", want: false },
  { pattern: "spiffe://prod.example/ns/market/*", name: "spiffe://prod.example/ns/market/", want: false },
  { pattern: "*.market.example", name: "web.market.example", want: true },
  { pattern: "*.market.example", name: "market.example", want: false },
  { pattern: "a*a", name: "a", want: false },
  { pattern: "*", name: "anything", want: true },
])("$pattern matches $name: $want", ({ pattern, name, want }) => {
  expect(matchesNamePattern(pattern, name)).toBe(want);
});
