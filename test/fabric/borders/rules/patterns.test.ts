import fc from "fast-check";
import { expect, test } from "vitest";
import { meet, Patterns } from "../../../../src/fabric/borders/rules/patterns.ts";
import { runs } from "../../../fakes/effort.ts";

/** The dumb model: each pattern for itself. */
function isCovered(patterns: readonly string[], namespace: string): boolean {
  return patterns.some((pattern) => {
    if (pattern === "*" || pattern === ".*") return true;
    if (pattern.endsWith(".*")) return namespace.startsWith(pattern.slice(0, -1));
    return `${namespace}.`.startsWith(`${pattern}.`);
  });
}

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
const patterns = fc.array(pattern, { maxLength: 8 });
const names = fc.array(name, { minLength: 1, maxLength: 20 });

test("compiled patterns cover what one of them covers", () => {
  fc.assert(
    fc.property(patterns, names, (some, namespaces) => {
      const compiled = new Patterns(some);
      const short = new Patterns(compiled.list);
      for (const each of namespaces) {
        expect([each, compiled.covers(each)]).toEqual([each, isCovered(some, each)]);
        expect([each, short.covers(each)]).toEqual([each, isCovered(some, each)]);
      }
      expect(compiled.list.length).toBeLessThanOrEqual(some.length);
    }),
    { numRuns: runs(500) },
  );
});

test("what two lists meet in is covered by both, and nothing else is", () => {
  fc.assert(
    fc.property(patterns, patterns, names, (some, others, namespaces) => {
      const both = meet(some, new Patterns(others));
      for (const each of namespaces)
        expect([each, isCovered(both, each)]).toEqual([each, isCovered(some, each) && isCovered(others, each)]);
    }),
    { numRuns: runs(500) },
  );
});

test("a list includes a pattern when it covers all that the pattern covers", () => {
  fc.assert(
    fc.property(patterns, pattern, names, (some, one, namespaces) => {
      const isIn = new Patterns(some).includes(one);
      // What is below a name stands for all that is.
      const base = one.replace(/\.?\*$/, "");
      const its = one === "*" || base === "" ? [...namespaces, "zz"] : [...(one.endsWith(".*") ? [] : [base]), `${base}.zz`];
      expect(isIn).toBe(its.every((each) => isCovered(some, each)));
    }),
    { numRuns: runs(1000) },
  );
});
