import { expect, test } from "vitest";
import { readDocuments } from "../../../src/lib/formats/documents.ts";

test("every value of every document knows its line, in YAML and in JSON", () => {
  const yaml = readDocuments("a: 1\nb:\n- c\n- d: e\n---\nf: g\n");
  expect(yaml.places.map(({ value }) => value)).toEqual([{ a: 1, b: ["c", { d: "e" }] }, { f: "g" }]);
  const [first, second] = yaml.places;
  expect([first?.line(), first?.line(["b"]), first?.at("b").at(1).line(["d"]), second?.line(["f"])]).toEqual([1, 2, 4, 6]);
  const json = readDocuments('{"a": 1,\n"b": ["c",\n{"d": "e"}]}');
  expect(json.places[0]?.line(["b", 1, "d"])).toBe(3);
});

test("the line of what is not there is that of the nearest part above it", () => {
  expect(readDocuments("a:\n  b: 1\n").places[0]?.line(["a", "x", "y"])).toBe(1);
});

test("a document that is broken is told, and those around it are read", () => {
  const { places, problems } = readDocuments("a: 1\n---\nb: [\n---\nc: 2\n");
  expect(places.map(({ value }) => value)).toEqual([{ a: 1 }, { c: 2 }]);
  expect(problems.map(({ line }) => line)).toEqual([4]);
});

test.each([
  { why: "deep JSON", text: `${"[".repeat(100)}1${"]".repeat(100)}`, says: "nested too deeply" },
  { why: "YAML too deep for the parser", text: "[".repeat(20_000), says: "nested too deeply" },
  { why: "an alias of itself", text: "a: &a [*a]", says: "nested too deeply" },
  { why: "aliases that multiply", text: `x: &x [1]\ny: [${"*x,".repeat(101)}]`, says: "more than 100 aliases" },
  { why: "a key twice", text: "a: 1\na: 2", says: "unique" },
  { why: "a tab for a space", text: "a:\n\t- b", says: "ab" },
])("$why is one problem", ({ text, says }) => {
  const { places, problems } = readDocuments(text);
  expect(places).toEqual([]);
  expect(problems).toHaveLength(1);
  expect(problems[0]?.message).toContain(says);
});

test("a key that is twice in JSON is a problem where that is asked for, and else the last counts", () => {
  const text = '{"a": 1,\n"a": 2}';
  expect(readDocuments(text).places[0]?.value).toEqual({ a: 2 });
  expect(readDocuments(text, { refusesRepeatedKeys: true })).toEqual({
    places: [],
    problems: [{ line: 2, message: 'the key "a" appears twice' }],
  });
});

test("for a text with more than a thousand problems, the first thousand are kept", () => {
  const { problems } = readDocuments("b: [\n---\n".repeat(1200));
  expect(problems).toHaveLength(1000);
  expect(problems.at(-1)?.line).toBe(2000);
});

test("what holds nothing has no document and no problem", () => {
  for (const text of ["", "# only a comment", "---\n---\n", "null"]) expect(readDocuments(text)).toEqual({ places: [], problems: [] });
});
