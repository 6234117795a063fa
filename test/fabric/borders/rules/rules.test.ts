/** What the rules of borders let out and in, as tables. */
import { expect, test } from "vitest";
import { Patterns } from "../../../../src/fabric/borders/rules/patterns.ts";
import { Filters, importRule } from "../../../../src/fabric/borders/rules/rules.ts";
import type { DigestFilter } from "../../../../src/summary/held/digests.ts";

test.each([
  { patterns: ["*"], covers: ["a", "a.b"], not: [] },
  { patterns: [], covers: [], not: ["a"] },
  { patterns: ["svc"], covers: ["svc", "svc.a", "svc.a.b"], not: ["svcs", "sv", "a.svc"] },
  { patterns: ["svc.*"], covers: ["svc.a", "svc.a.b"], not: ["svc", "svcs", "svcs.a"] },
  { patterns: ["a", "b.*"], covers: ["a", "b.c"], not: ["b", "c"] },
])("patterns $patterns cover $covers and not $not", ({ patterns, covers, not }) => {
  expect([...covers, ...not].filter((namespace) => new Patterns(patterns).covers(namespace))).toEqual(covers);
});

const border = (clusterId: string, ...imports: readonly string[]) => ({ clusterId, imports });

test.each([
  { rule: "without borders all are shown", borders: [], source: "us1", isShown: true },
  {
    rule: "the border with the source decides, and lets in",
    borders: [border("us1", "svc"), border("us2", "other")],
    source: "us1",
    isShown: true,
  },
  {
    rule: "the border with the source decides, whatever another lets in",
    borders: [border("us1", "other"), border("us2", "svc")],
    source: "us1",
    isShown: false,
  },
  {
    rule: "the border with the source decides, also where another has no rule",
    borders: [border("us1", "other"), border("us2")],
    source: "us1",
    isShown: false,
  },
  { rule: "a border without a rule lets all in", borders: [border("us1")], source: "us1", isShown: true },
  { rule: "of another source one border is enough", borders: [border("us1", "other"), border("us2", "svc")], source: "ap1", isShown: true },
  { rule: "of another source none lets it in", borders: [border("us1", "other"), border("us2", "svc.*")], source: "ap1", isShown: false },
])("$rule", ({ borders, source, isShown }) => {
  expect(importRule(borders)(source, "svc")).toBe(isShown);
});

test("a filter is let go with the last link that uses it, and one of the settings never", () => {
  const gone: DigestFilter[] = [];
  const summaries = { regionOf: () => "far", letGo: (filter: DigestFilter) => void gone.push(filter) };
  const filters = new Filters(summaries, { newRulesBurst: 8, newRulesEveryMs: 10_000 });
  const obtained = (patterns: readonly string[]) => filters.obtain(patterns, "us", "eu", { monoMs: 0, wallMs: 0 }) ?? expect.fail();
  const links = [obtained(["svc.a"]), obtained(["svc.a"])] as const;
  const ofSettings = filters.ofSettings(["svc.b"], "us");
  const alike = obtained(["svc.b"]);
  expect([links[0] === links[1], ofSettings === alike]).toEqual([true, true]);
  filters.letGo(links[0]);
  filters.letGo(alike);
  expect(gone).toEqual([]);
  filters.letGo(links[1]);
  expect([gone, filters.ofSettings(["svc.b"], "us") === ofSettings]).toEqual([[links[0]], true]);
});
