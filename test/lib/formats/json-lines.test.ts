import fc from "fast-check";
import { expect, test } from "vitest";
import { findDuplicateKey, JsonPositions } from "../../../src/lib/formats/json-lines.ts";

const TEXT = `{
  "a": [1, "x]}", {"b": {}}],
  "c": {"d\\"e": [[], [true]]},
  "c": null
}`;

test.each([
  { path: [], want: "{\n" },
  { path: ["a"], want: '"a"' },
  { path: ["a", 0], want: "1," },
  { path: ["a", 1], want: '"x]}"' },
  { path: ["a", 2, "b"], want: '"b"' },
  { path: ["a", 9], want: '"a"' },
  { path: ["c"], want: '"c": null' },
  { path: ["zz"], want: "{\n" },
  { path: ["a", 0, "deeper"], want: "1," },
])("$path is at $want", ({ path, want }) => {
  expect(TEXT.slice(new JsonPositions(TEXT).offset(path))).toMatch(new RegExp(`^${RegExp.escape(want)}`));
});

test("every path of every JSON value leads to the text of its value or key, however it is spaced", () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 4 }), fc.constantFrom(undefined, 1, "\t"), (value, space) => {
      const text = JSON.stringify(value, undefined, space);
      const places = new JsonPositions(text);
      const visit = (part: unknown, path: readonly PropertyKey[]): void => {
        const key = path.at(-1);
        const starts = typeof key === "string" ? JSON.stringify(key) : JSON.stringify(part, undefined, space).slice(0, 1);
        expect(text.startsWith(starts, places.offset(path))).toBe(true);
        if (Array.isArray(part)) for (const [index, item] of part.entries()) visit(item, [...path, index]);
        else if (typeof part === "object" && part !== null) for (const [name, item] of Object.entries(part)) visit(item, [...path, name]);
      };
      visit(value, []);
    }),
  );
});

test.each([
  { text: '{"a": 1, "b": {"a": 2}, "a": 3}', key: "a", at: '"a": 3', path: [] },
  { text: '[{"a": 1}, {"a": 1, "\\u0061": 2}]', key: "a", at: '"\\u0061": 2', path: [1] },
  { text: '{"p,": [[1, 2], [{"q": {}}, {"r": {"s": 1, "s": 2}}]]}', key: "s", at: '"s": 2', path: ["p,", 1, 1, "r"] },
  { text: '{"x": ["a", "a"], "y": "x", "z": [{"k:": 1}, {"k:": 2}]}', key: undefined, at: "" },
  { text: '{"a\\"": "a\\"", "b": "a"}', key: undefined, at: "" },
])("in $text the key $key is there twice", ({ text, key, at, path }) => {
  const found = findDuplicateKey(text);
  expect(found?.key).toBe(key);
  expect(found?.path).toEqual(path);
  if (found !== undefined) expect(text.slice(found.offset, found.offset + at.length)).toBe(at);
});

test("no JSON that was written from a value has a key twice", () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.constantFrom(undefined, 1), (value, space) => {
      expect(findDuplicateKey(JSON.stringify(value, undefined, space))).toBeUndefined();
    }),
  );
});

test("a list as long as a real catalog costs about as much to ask for each part as for one", () => {
  const text = JSON.stringify({ entries: Array.from({ length: 20_000 }, (_, i) => ({ name: `web-${i}`, tags: ["a"] })) }, undefined, 1);
  const places = new JsonPositions(text);
  for (let i = 0; i < 20_000; i++) expect(text.startsWith('"name"', places.offset(["entries", i, "name"]))).toBe(true);
  expect(places.line(["entries", 19_999, "name"])).toBe(text.slice(0, text.lastIndexOf('"name"')).split("\n").length);
});
