import fc from "fast-check";
import { expect, test } from "vitest";
import { formatTime, parseTime } from "../../../src/lib/formats/rfc3339.ts";

test.each([
  ["1970-01-01T00:00:00Z", 0],
  ["1970-01-01t01:00:00.5+01:00", 500],
  ["1969-12-31T23:00:00-01:00", 0],
  ["2024-02-29T12:00:00.123456789Z", Date.UTC(2024, 1, 29, 12, 0, 0, 123)],
  ["0099-01-01T00:00:00Z", -59_042_995_200_000],
])("%s is %d", (text, want) => {
  expect(parseTime(text)).toBe(want);
});

test.each([
  "2026-02-30T00:00:00Z",
  "2025-02-29T00:00:00Z",
  "2026-13-01T00:00:00Z",
  "2026-01-00T00:00:00Z",
  "2026-01-01T24:00:00Z",
  "2026-01-01T00:60:00Z",
  "2026-01-01T00:00:60Z",
  "2026-01-01T00:00:00",
  "2026-01-01T00:00:00+24:00",
  "2026-01-01",
  "2026-01-01 00:00:00Z",
  "0000-01-01T00:00:00Z",
  "now",
  "",
])("%s is no time", (text) => {
  expect(parseTime(text)).toBeUndefined();
});

test("what is written is read back", () => {
  fc.assert(
    fc.property(fc.integer({ min: -62_135_596_800_000, max: 253_402_300_799_999 }), (ms) => {
      expect(parseTime(formatTime(ms))).toBe(ms);
    }),
  );
});
