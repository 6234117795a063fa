import { expect, test } from "vitest";
import { findNearest } from "../../src/lib/nearest.ts";

test.each([
  { word: "regster", want: "register" },
  { word: "reigster", want: "register" },
  { word: "QUERY", want: "query" },
  { word: "querry", want: "query" },
  { word: "zzzzzz", want: undefined },
  { word: "", want: undefined },
  { word: "x".repeat(100_000), want: undefined },
])("nearest to $word is $want", ({ word, want }) => {
  expect(findNearest(word, ["serve", "register", "query"])).toBe(want);
});

test("the first of equally near candidates is taken", () => {
  expect(findNearest("ab", ["ac", "ad"])).toBe("ac");
});

test("a caller may ask for a nearer one", () => {
  expect(findNearest("consul", ["config"])).toBe("config");
  expect(findNearest("consul", ["config"], 3)).toBeUndefined();
  expect(findNearest("quer", ["query"], 3)).toBe("query");
});
