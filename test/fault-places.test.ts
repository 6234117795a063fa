/** The places of one-line faults: what a slip of each kind makes of a line, and what is left alone. */
import { expect, test } from "vitest";
import { faultsIn, plant } from "../scripts/fault-places.ts";

/** The body of a function that says this, with each fault in it. */
function slips(body: string): readonly string[] {
  const text = `export async function f(a: number, b: number): Promise<unknown> {\n${body}\n}\n`;
  return faultsIn("src/f.ts", text).map((fault) => plant(text, fault).split("\n").slice(1, -2).join("\n"));
}

test.each([
  ["return a < b;", ["return a <= b;"]],
  ["return a === b;", ["return a !== b;"]],
  ["return a - 1;", ["return a + 1;", "return a - 2;"]],
  ["return !a;", ["return a;"]],
  ["return true;", ["return false;"]],
  [
    "return a && (b || a);",
    ["return a;", "return a || (b || a);", "return (b || a);", "return a && (b);", "return a && (b && a);", "return a && (a);"],
  ],
  ["if (a < b) return 2;", [";", "if (!(a < b)) return 2;", "if (a <= b) return 2;", "if (a < b) return 3;"]],
  ["if (a === b) return;", [";", "if (a !== b) return;"]],
  ["return a > b ? a : b;", ["return !(a > b) ? a : b;", "return a >= b ? a : b;"]],
  ["g(a, b);", [";", "g(b, a);"]],
  ["a += b;", [";", "a -= b;"]],
  ["a++;", [";", "a--;"]],
  ["return Math.max(a, b);", ["return Math.min(a, b);"]],
  ["await g(() => a, b);", [";"]],
])("%s", (body, expected) => {
  expect(slips(body).toSorted()).toEqual([...expected].toSorted());
});

test.each([
  ["a type", "const x = a as 1 | 2;\nreturn x;"],
  ["a text", 'return `${a} of ` + "b";'],
  ["what checks ourselves", "assert(a);"],
  ["what takes more than a line", "g(\n  a,\n);"],
])("%s is left alone", (_, body) => {
  expect(slips(body)).toEqual([]);
});

test("imports and the constants at the top of a file are left alone: another size is another setting", () => {
  const text = 'import { a } from "./a.ts";\nexport const MAX = 10 + 1;\nconst f = (n: number) => n + 1;\n';
  expect(faultsIn("src/f.ts", text).map(({ line, before, after }) => [line, before, after])).toEqual([
    [3, "+", "-"],
    [3, "1", "2"],
  ]);
});
