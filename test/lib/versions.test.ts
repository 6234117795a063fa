import { expect, test } from "vitest";
import { lacksVersion, VersionRange } from "../../src/lib/versions.ts";

test.each([
  { range: "^1.2.0", has: ["1.2.0", "1.9.4"], not: ["1.1.9", "2.0.0", "2.0.0-rc.1", "", "one"] },
  { range: ">=1 <3", has: ["1.0.0", "2.9.9"], not: ["3.0.0", "0.9.0"] },
  { range: "*", has: ["0.0.1"], not: ["", "x"] },
])("$range has $has and not $not, however often it is asked", ({ range, has, not }) => {
  const versions = new VersionRange(range);
  for (let round = 0; round < 2; round++) {
    expect(has.map((version) => versions.has(version))).toEqual(has.map(() => true));
    expect(not.map((version) => versions.has(version))).toEqual(not.map(() => false));
  }
});

test("more versions than it keeps are judged all the same", () => {
  const versions = new VersionRange(">=1");
  for (let i = 0; i < 1000; i++) expect(versions.has(`${i % 2}.${i}.0`)).toBe(i % 2 === 1);
});

test("what is no range is refused by its field, and a reason names version and range", () => {
  expect(() => new VersionRange("1".repeat(129))).toThrow("version_range: is longer than 128 characters");
  expect(() => new VersionRange("latest!")).toThrow('invalid_argument: version_range: "latest!" is not a range');
  expect([lacksVersion("2.0.0", "^1"), lacksVersion("", "^1")]).toEqual(["version 2.0.0 is not in ^1", "version (none) is not in ^1"]);
});
