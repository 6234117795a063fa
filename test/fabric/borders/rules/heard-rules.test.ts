import { expect, test } from "vitest";
import { countingOf, HeardRules, letThrough, ruleOf } from "../../../../src/fabric/borders/rules/heard-rules.ts";
import { ANY_REACH } from "../../../../src/fabric/borders/rules/lengths.ts";
import { Patterns } from "../../../../src/fabric/borders/rules/patterns.ts";
import type { HeardRule } from "../../../../src/fabric/wire/messages.ts";

const EU1 = { clusterId: "eu1", region: "eu" };
const EU2 = { clusterId: "eu2", region: "eu" };
const AP1 = { clusterId: "ap1", region: "ap" };
const unheard = (of: typeof EU1): HeardRule => ({ ...of, isHeard: false, hasLink: false, exports: [] });
const away = (of: typeof EU1, ...exports: readonly string[]): HeardRule => ({ ...of, isHeard: true, hasLink: false, exports });
const linked = (of: typeof EU1, ...exports: readonly string[]): HeardRule => ({ ...of, isHeard: true, hasLink: true, exports });

test.each<{
  readonly name: string;
  readonly told: readonly (readonly HeardRule[])[];
  readonly isSettled?: boolean;
  readonly isLost?: boolean;
  readonly through?: readonly string[];
}>([
  { name: "no borders", told: [] },
  { name: "one neighbour", told: [[linked(EU1, "svc")]], through: ["svc"] },
  { name: "one that exports nothing", told: [[linked(EU1)]], through: [] },
  { name: "one that nobody heard", told: [[linked(EU1, "svc"), unheard(AP1)]], isSettled: true },
  {
    name: "heard by different nodes",
    told: [
      [linked(EU1, "svc"), unheard(AP1)],
      [unheard(EU1), linked(AP1, "a", "b")],
    ],
    through: ["a", "b", "svc"],
  },
  { name: "one exports everything", told: [[linked(EU1, "svc"), linked(AP1, "*")]], through: ["*"] },
  { name: "one is away", told: [[linked(EU1, "svc"), away(AP1, "a")]], through: ["a", "svc"] },
  { name: "a link tells more than who has none any more", told: [[linked(EU1, "svc")], [away(EU1, "*")]], through: ["svc"] },
  { name: "nodes that start anew one after the other", told: [[linked(EU1, "svc")], [linked(EU1, "*")]], through: ["*"] },
  { name: "a cluster without a link of its own", told: [[linked(EU1, "svc"), unheard(EU2)]] },
  { name: "the same after a time", told: [[linked(EU1, "svc"), unheard(EU2)]], isSettled: true, through: ["svc"] },
  { name: "no link with the region", told: [[away(EU1, "svc"), unheard(EU2)]], isSettled: true },
  {
    name: "the same for so long that all is lost",
    told: [[away(EU1, "svc"), unheard(EU2)]],
    isSettled: true,
    isLost: true,
    through: ["svc"],
  },
])("what neighbours let through to a cluster: $name", ({ told, isSettled = false, isLost = false, through }) => {
  const support = letThrough(countingOf(told), { isSettled, isLost });
  const patterns = support?.held.flatMap((held) => held.patterns);
  expect(patterns && new Patterns(patterns).list).toEqual(through);
});

test.each<{ readonly name: string; readonly rows: number; readonly regions: number; readonly patterns: number; readonly isLong: boolean }>([
  { name: "what an honest one tells", rows: 4, regions: 16, patterns: 16, isLong: false },
  { name: "many rows", rows: 65, regions: 1, patterns: 1, isLong: true },
  { name: "many regions", rows: 1, regions: 65, patterns: 1, isLong: true },
  { name: "many patterns", rows: 1, regions: 1, patterns: 65, isLong: true },
  { name: "short names that are long to look at", rows: 4, regions: 40, patterns: 40, isLong: true },
])(
  "a reach that is too long counts as any, so that no neighbour decides what a look at it costs: $name",
  ({ rows, regions, patterns, isLong }) => {
    const heard = new HeardRules();
    const reached = [...new Array(rows).keys()].map((row) => ({
      hops: 1,
      regions: Array.from({ length: regions }, (_, n) => `${(row * regions + n).toString(36)}r`),
      patterns: Array.from({ length: patterns }, (_, n) => `${(row * patterns + n).toString(36)}p`),
    }));
    heard.heard(1, { ...EU1, exports: ["*"], reached });
    const [told] = heard.list([EU1], () => undefined);
    expect(JSON.stringify(told?.reached) === JSON.stringify(ANY_REACH)).toBe(isLong);
  },
);

test("a node tells what is heard on its links, and of a neighbour without one what it heard last; what is long counts as everything", () => {
  const heard = new HeardRules();
  /** As the node remembers it. */
  let last: HeardRule | undefined;
  const list = () => {
    for (const { told, isClosed } of heard.takePast()) if (isClosed) last = ruleOf([told], { hasLink: false });
    return heard.list([EU1, AP1], (clusterId) => (clusterId === "eu1" ? last : undefined));
  };
  const hear = (link: number, ...exports: readonly string[]) => heard.heard(link, { ...EU1, exports, reached: [] });
  const passes = (namespace: string) => heard.passes(namespace, "eu");
  expect(list()).toEqual([unheard(EU1), unheard(AP1)]);
  hear(1, "svc");
  hear(2, "svc", "inner");
  expect([list(), passes("inner.a"), passes("other")]).toEqual([[linked(EU1, "inner", "svc"), unheard(AP1)], true, false]);
  heard.closed(2);
  heard.closed(3);
  expect([list()[0], passes("inner")]).toEqual([linked(EU1, "svc"), false]);
  heard.closed(1);
  expect([list()[0], passes("svc")]).toEqual([away(EU1, "svc"), false]);
  hear(4, ...Array.from({ length: 65 }, (_, n) => `a${n}`));
  expect(list()).toEqual([linked(EU1, "*"), unheard(AP1)]);
  hear(4, ...Array.from({ length: 20 }, (_, n) => `${n}`.padStart(150, "a")));
  expect(list()).toEqual([linked(EU1, "*"), unheard(AP1)]);
});
