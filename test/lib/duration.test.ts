import { expect, test } from "vitest";
import { ageText, durationText, isKnownAge, parseDurationMs } from "../../src/lib/duration.ts";

test.each([
  { written: "500ms", ms: 500 },
  { written: "1.5s", ms: 1500 },
  { written: "10m", ms: 600_000 },
  { written: "24h", ms: 86_400_000 },
  { written: "7d", ms: 604_800_000 },
  { written: "0", ms: 0 },
  { written: "", ms: undefined },
  { written: "5", ms: undefined },
  { written: "-1s", ms: undefined },
  { written: "1 s", ms: undefined },
  { written: "1e3s", ms: undefined },
  { written: "1w", ms: undefined },
])("$written is $ms ms", ({ written, ms }) => {
  expect(parseDurationMs(written)).toBe(ms);
});

test.each([
  { ms: 0, text: "0s" },
  { ms: 1, text: "1ms" },
  { ms: 1500, text: "1500ms" },
  { ms: 60_000, text: "1m" },
  { ms: 5_400_000, text: "90m" },
  { ms: 86_400_000, text: "1d" },
])("$ms ms are written $text, and read back", ({ ms, text }) => {
  expect(durationText(ms)).toBe(text);
  expect(parseDurationMs(text)).toBe(ms);
});

test("an age is written in whole seconds", () => {
  expect([0, 19_471, 59_801].map(ageText)).toEqual(["0s", "19s", "1m"]);
});

test("an age of decades is one that nobody knows", () => {
  expect(isKnownAge(86_400_000)).toBe(true);
  expect(isKnownAge(Date.UTC(2026, 0, 1))).toBe(false);
});
