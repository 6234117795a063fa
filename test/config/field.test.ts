import fc from "fast-check";
import { expect, test } from "vitest";
import { bool, bytes, choice, int, list, ms, optionalPort, optionalText, type Parsed, pairs, port, text } from "../../src/config/field.ts";
import { durationText, parseDurationMs } from "../../src/lib/duration.ts";

const doc = "x";

function outcome(setting: { parse(raw: unknown): Parsed<unknown> }, raw: unknown): unknown {
  const parsed = setting.parse(raw);
  return "value" in parsed ? parsed.value : "refused";
}

test.each([
  { name: "int", setting: int({ default: 1, min: 0, max: 10, doc }), good: [0, 10], bad: [-1, 11, 1.5, "1", Number.NaN, undefined, true] },
  { name: "port", setting: port({ default: 1, doc }), good: [0, 65_535], bad: [-1, 65_536, "80"] },
  { name: "bool", setting: bool({ default: true, doc }), good: [true, false], bad: ["true", 1, undefined] },
  { name: "text", setting: text({ default: "", doc, pattern: /^[a-z]+$/ }), good: ["abc"], bad: ["A", "", 1, []] },
  { name: "optionalText", setting: optionalText({ doc }), good: ["abc"], bad: [1] },
  { name: "optionalPort", setting: optionalPort({ doc }), good: [0], bad: [65_536, "x"] },
  { name: "choice", setting: choice({ choices: ["a", "b"], default: "a", doc }), good: ["a", "b"], bad: ["c", 1] },
  {
    name: "list",
    setting: list({ default: [], doc, pattern: /^[a-z]$/ }),
    good: [[], ["a"]],
    bad: ["a", [1], ["A"], Array.from({ length: 1001 }, () => "a")],
  },
  {
    name: "pairs",
    setting: pairs({ default: {}, doc, maxItems: 2, name: /^[a-z]$/, nameWhat: "a letter", maxValueLength: 3 }),
    good: [{}, { a: "b" }, { a: "bcd", b: "" }],
    bad: ["a", [], { a: 1 }, { a: {} }, { A: "b" }, { a: "bcde" }, { a: "", b: "", c: "" }],
  },
])("$name takes what it should and nothing else", ({ setting, good, bad }) => {
  for (const raw of good) expect(outcome(setting, raw)).toEqual(raw);
  for (const raw of bad) expect(outcome(setting, raw)).toBe("refused");
});

test.each([
  { text: "500ms", want: 500 },
  { text: "1.5s", want: 1500 },
  { text: "2m", want: 120_000 },
  { text: "24h", want: 86_400_000 },
  { text: "7d", want: 604_800_000 },
  { text: "0", want: 0 },
  { text: "5", want: undefined },
  { text: "-5s", want: undefined },
  { text: "1h30m", want: undefined },
  { text: "1e3s", want: undefined },
])("the duration $text is $want ms", ({ text: written, want }) => {
  expect(parseDurationMs(written)).toBe(want);
});

test("a duration's text reads back as the same duration", () => {
  fc.assert(
    fc.property(fc.nat(1_000_000_000), (lengthMs) => {
      expect(parseDurationMs(durationText(lengthMs))).toBe(lengthMs);
    }),
  );
});

test("a size's text reads back as the same size", () => {
  const setting = bytes({ default: 1, min: 0, max: 2 ** 40, doc });
  fc.assert(
    fc.property(fc.nat(), (size) => {
      expect(outcome(setting, setting.fromText(setting.toText(size)))).toBe(size);
    }),
  );
});

test("a table's text reads back as the same table, by commas or as JSON", () => {
  const setting = pairs({ default: {}, doc, maxItems: 100, name: /^[^]*$/, nameWhat: "any", maxValueLength: 1000 });
  const word = fc.oneof(fc.string(), fc.constantFrom("a", "a=b", "a,b", " a", "{}", "[1]", ""));
  fc.assert(
    fc.property(fc.dictionary(word, word, { noNullPrototype: true }), (table) => {
      expect(outcome(setting, setting.fromText(setting.toText(table)))).toEqual(table);
    }),
  );
  expect(setting.toText({ rack: "7", row: "a=b" })).toBe("rack=7,row=a=b");
  expect(setting.toText({ rack: "7,8" })).toBe('{"rack":"7,8"}');
});

test("bounds are told in the unit they are written in", () => {
  const setting = ms({ default: 1000, min: 1000, max: 60_000, doc });
  expect(setting.parse("2h")).toEqual({ faults: [{ at: [], message: "2h is more than 1m, the largest allowed" }] });
});
