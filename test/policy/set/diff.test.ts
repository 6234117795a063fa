import fc from "fast-check";
import { expect, test } from "vitest";
import { diff } from "../../../src/policy/set/diff.ts";
import { rule, set, someSet, span } from "../../fakes/policies.ts";

test("rules that came, went and changed are told by pattern, with the items that differ", () => {
  const before = set([rule("b", { visibilityTenants: ["blue", "red"] }), rule("c"), rule("d")]);
  const after = set([rule("d"), rule("a"), rule("b", { visibilityTenants: ["green", "blue"], allowSummaries: true })], { version: "v2" });
  expect(diff(before, after)).toEqual([
    { pattern: "", change: "changed", fields: [{ field: "version", removed: ["v1"], added: ["v2"] }] },
    { pattern: "a", change: "added", fields: [] },
    {
      pattern: "b",
      change: "changed",
      fields: [
        { field: "visibility_tenants", removed: ["red"], added: ["green"] },
        { field: "allow_summaries", removed: ["false"], added: ["true"] },
      ],
    },
    { pattern: "c", change: "removed", fields: [] },
  ]);
});

test("the first set differs from no policy", () => {
  expect(diff(undefined, set([rule("a")]))).toMatchObject([
    { pattern: "", fields: [{ field: "version" }, { field: "default_allow", removed: ["no policy"], added: ["false"] }] },
    { pattern: "a", change: "added" },
  ]);
});

test("a window is told as a person would write it, and of long lists the first items and how many more", () => {
  const after = rule("a", {
    cutoverWindows: [span(0, 1000, { exportScopes: [4] })],
    owners: Array.from({ length: 50 }, (_, i) => `o${i}`),
  });
  const [change] = diff(set([rule("a")]), set([after]));
  expect(change?.fields).toMatchObject([
    { field: "owners" },
    { field: "cutover_windows", added: ["1970-01-01T00:00:00.000Z to 1970-01-01T00:00:01.000Z global"] },
  ]);
  expect(change?.fields[0]?.added.slice(18)).toEqual(["o18", "… and 31 more"]);
});

test("a set does not differ from itself, in whatever order its rules are", () => {
  fc.assert(
    fc.property(someSet, (any) => {
      expect(diff(any, { ...any, rules: any.rules.toReversed() })).toEqual([]);
    }),
  );
});
