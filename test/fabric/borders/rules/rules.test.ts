/** What the rules of borders let out and in, as tables. */
import { expect, test } from "vitest";
import { Patterns } from "../../../../src/fabric/borders/rules/patterns.ts";
import { importRule } from "../../../../src/fabric/borders/rules/rules.ts";

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
