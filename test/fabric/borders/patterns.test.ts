import fc from "fast-check";
import { expect, test } from "vitest";
import { Patterns } from "../../../src/fabric/borders/patterns.ts";

/** The dumb model: each pattern for itself. */
function isCovered(patterns: readonly string[], namespace: string): boolean {
  return patterns.some((pattern) => {
    if (pattern === "*" || pattern === ".*") return true;
    if (pattern.endsWith(".*")) return namespace.startsWith(pattern.slice(0, -1));
    return `${namespace}.`.startsWith(`${pattern}.`);
  });
}

test("compiled patterns cover what one of them covers", () => {
  // Characters that sort before and behind the dot, too.
  const label = fc.constantFrom("a", "b", "a-b", "ab", "a!", "*");
  const name = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join("."));
  const pattern = fc.oneof(
    name,
    name,
    name,
    name.map((text) => `${text}.*`),
    fc.constantFrom("*", ".*", "a.", ".a"),
  );
  fc.assert(
    fc.property(fc.array(pattern, { maxLength: 8 }), fc.array(name, { minLength: 1, maxLength: 20 }), (patterns, names) => {
      const compiled = new Patterns(patterns);
      for (const each of names) expect([each, compiled.covers(each)]).toEqual([each, isCovered(patterns, each)]);
    }),
    { numRuns: 500 },
  );
});
