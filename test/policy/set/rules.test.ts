import fc from "fast-check";
import { expect, test } from "vitest";
import { BELOW, type Rule, RuleTrie } from "../../../src/policy/set/rules.ts";

function rule(pattern: string): Rule {
  const nothing = { owners: [], visibility: [], visibilityTenants: [], exportScopes: [], cutoverWindows: [] };
  return { pattern, ...nothing, allowSummaries: false, policyVersion: "", priority: 0, quota: { entries: 0, watches: 0, bytes: 0 } };
}

/** All patterns that cover the namespace, most specific last. */
function coveringPatterns(namespace: string): readonly string[] {
  const labels = namespace.split(".");
  return labels.flatMap((_, i) => {
    const prefix = labels.slice(0, i + 1).join(".");
    return i + 1 < labels.length ? [prefix, `${prefix}${BELOW}`] : [prefix];
  });
}

test("the trie finds what a scan of all rules finds", () => {
  const namespace = fc.array(fc.constantFrom("a", "b", "c"), { minLength: 1, maxLength: 4 }).map((labels) => labels.join("."));
  const pattern = fc.tuple(namespace, fc.boolean()).map(([prefix, isBelow]) => (isBelow ? `${prefix}${BELOW}` : prefix));
  fc.assert(
    fc.property(fc.uniqueArray(pattern, { maxLength: 12 }), namespace, (patterns, asked) => {
      const want = coveringPatterns(asked).findLast((one) => patterns.includes(one));
      expect(new RuleTrie(patterns.map(rule)).find(asked)?.pattern).toBe(want);
    }),
  );
});
