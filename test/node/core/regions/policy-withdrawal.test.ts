import { expect, test } from "vitest";
import { HeardRules } from "../../../../src/fabric/borders/rules/heard-rules.ts";
import type { HeardRule, Reach } from "../../../../src/fabric/wire/messages.ts";
import { PolicyWithdrawal } from "../../../../src/node/core/regions/policy-withdrawal.ts";
import type { IsExported } from "../../../../src/summary/held/keeping.ts";

const NEIGHBOURS = [{ clusterId: "eu1", region: "eu" }];

/** What a node tells of a neighbour of eu with which it has a link. */
function row(clusterId: string, ...exports: readonly string[]): HeardRule {
  return { clusterId, region: "eu", isHeard: true, hasLink: true, exports };
}

/** A node of us1 that judges each half second. */
function nodeOf() {
  const uses: (readonly [string, boolean])[][] = [];
  let inUse: ReadonlyMap<string, IsExported> = new Map();
  const held = {
    lostAfterMs: 720_000,
    otherRegions: new Set(["eu"]),
    exportsChanged: (exported: ReadonlyMap<string, IsExported>) => {
      inUse = exported;
      uses.push([...exported].map(([cluster, lets]) => [cluster, lets("inner", "eu")] as const));
    },
  };
  const heard = new HeardRules();
  const narrowed = new PolicyWithdrawal({ held, clusterId: "us1", region: "us", neighbours: NEIGHBOURS });
  narrowed.follow(heard);
  let monoMs = 0;
  let toldCount = 0;
  const look = (members: Parameters<PolicyWithdrawal["look"]>[0] = []) => {
    monoMs += 500;
    if (narrowed.look(members, { monoMs, wallMs: monoMs })) toldCount += 1;
  };
  return { heard, narrowed, look, uses, told: () => toldCount, lets: (namespace: string) => inUse.get("us1")?.(namespace, "eu") };
}

test("a rule that flaps is told and used a bounded number of times, and the last one counts in the end", () => {
  const { heard, narrowed, look, uses, told } = nodeOf();
  for (let n = 0; n < 1200; n++) {
    heard.heard(1, { clusterId: "eu1", region: "eu", exports: n % 2 === 0 ? ["svc"] : ["*"], reached: [] });
    look();
  }
  // Three at once, and one each 20 s for ten minutes.
  expect(Math.max(told(), uses.length)).toBeLessThanOrEqual(3 + 30);
  heard.heard(1, { clusterId: "eu1", region: "eu", exports: ["svc"], reached: [] });
  for (let n = 0; n < 100; n++) look();
  expect([uses.at(-1), narrowed.told.map(({ exports }) => exports)]).toEqual([[["us1", false]], [["svc"]]]);
});

test("what comes with a wider rule on a link of this node passes before anybody is told; what is not known any more stays in use", () => {
  const { heard, look, uses, lets } = nodeOf();
  heard.heard(1, { clusterId: "eu1", region: "eu", exports: ["svc"], reached: [] });
  look();
  expect(uses).toEqual([[["us1", false]]]);
  heard.heard(1, { clusterId: "eu1", region: "eu", exports: ["svc", "inner"], reached: [] });
  expect([lets("inner"), lets("other")]).toEqual([true, false]);
  const told: HeardRule[] = [{ clusterId: "ap1", region: "ap", isHeard: false, hasLink: false, exports: [] }];
  look([{ clusterId: "us1", heardRules: told }]);
  expect(uses).toHaveLength(1);
  look();
  expect(uses.at(-1)).toEqual([["us1", true]]);
});

test("each cluster is judged by what its own nodes heard, and one that says nothing is not judged", () => {
  const { heard, look, uses } = nodeOf();
  heard.heard(1, { clusterId: "eu1", region: "eu", exports: ["*"], reached: [] });
  const rule = { clusterId: "eu1", region: "eu", isHeard: true, hasLink: true, exports: ["svc"] };
  look([
    { clusterId: "us2", heardRules: [rule] },
    { clusterId: "us3" },
    { clusterId: "us4", heardRules: [{ ...rule, isHeard: false, hasLink: false }] },
  ]);
  expect(uses).toEqual([[["us2", false]]]);
});

test("what a neighbour told a node that is gone counts for a ttl and stale_keep, and is told to others; a link tells more", () => {
  const heard = new HeardRules();
  let inUse: IsExported | undefined;
  const lets = (namespace: string) => inUse?.(namespace, "eu");
  const held = {
    otherRegions: new Set(["eu"]),
    lostAfterMs: 720_000,
    exportsChanged: (exported: typeof uses) => (inUse = exported.get("us1")),
  };
  const uses: ReadonlyMap<string, IsExported> = new Map();
  const neighbours = [...NEIGHBOURS, { clusterId: "eu2", region: "eu" }];
  const narrowed = new PolicyWithdrawal({ held, clusterId: "us1", region: "us", neighbours });
  narrowed.follow(heard);
  heard.heard(1, { clusterId: "eu1", region: "eu", exports: ["svc"], reached: [] });
  const look = (monoMs: number, heardRules?: readonly HeardRule[]) =>
    narrowed.look(heardRules === undefined ? [] : [{ clusterId: "us1", heardRules }], { monoMs, wallMs: monoMs });
  look(0, [row("eu2", "inner")]);
  look(100_000, [row("eu2", "inner")]);
  expect([lets("inner"), lets("other")]).toEqual([true, false]);
  look(200_000);
  look(400_000);
  expect([lets("inner"), narrowed.told[1]]).toEqual([true, { ...row("eu2", "inner"), hasLink: false }]);
  look(500_000, [row("eu2", "other")]);
  expect([lets("inner"), lets("other")]).toEqual([false, true]);
  look(1_230_000);
  look(1_260_000);
  expect([lets("other"), narrowed.told[1]?.isHeard]).toEqual([false, false]);
});

test("where one region is left that has a say of two, what is let through no more waits for the word of others", () => {
  const { look, uses } = nodeOf();
  const hear = (...heardRules: readonly HeardRule[]) => look([{ clusterId: "us2", heardRules }]);
  const all = { hops: 1, regions: ["eu"], patterns: ["inner"] };
  hear(row("eu1", "svc"), { ...row("ap1", "*"), region: "ap", reached: [all] });
  expect(uses.at(-1)).toEqual([["us2", true]]);
  // The settings name one neighbour less, or its node has not told of it yet.
  for (let n = 0; n < 5; n++) hear(row("eu1", "svc"));
  expect(uses.at(-1)).toEqual([["us2", true]]);
  for (let n = 0; n < 10; n++) hear(row("eu1", "svc"));
  expect(uses.at(-1)).toEqual([["us2", false]]);
});

test("of a cluster 64 neighbours are remembered, however many its nodes make up", () => {
  const { look, uses } = nodeOf();
  const hear = (...heardRules: readonly HeardRule[]) => look([{ clusterId: "us2", heardRules }]);
  const eu1 = row("eu1", "svc");
  // By then a neighbour without a link counts as none, unless what it told is remembered.
  for (let n = 0; n < 200; n++) hear(eu1, row("eu2", "inner"));
  expect(uses.at(-1)).toEqual([["us2", true]]);
  for (let n = 0; n < 63; n++) hear(eu1, row(`x${n}`, "svc"));
  const unheard = { ...row("eu2"), isHeard: false, hasLink: false };
  for (let n = 0; n < 50; n++) hear(eu1, unheard);
  expect(uses.at(-1)).toEqual([["us2", false]]);
});

test("of clusters of which no node is left what 64 were let through is kept, however many of them a member makes up", () => {
  const { look, uses } = nodeOf();
  const heardRules = [{ clusterId: "eu1", region: "eu", isHeard: true, hasLink: true, exports: ["svc"] }];
  for (let n = 0; n < 200; n++) for (let k = 0; k < 40; k++) look([{ clusterId: `made${n}`, heardRules }]);
  const inUse = uses.at(-1)?.map(([cluster]) => cluster) ?? [];
  expect([inUse.length, inUse.at(-1)]).toEqual([65, "made199"]);
});

/** A node of us1 with neighbours in two regions. */
function relayOf(
  neighbours: readonly { readonly clusterId: string; readonly region: string }[] = [...NEIGHBOURS, { clusterId: "ap1", region: "ap" }],
) {
  let inUse: IsExported | undefined;
  let useCount = 0;
  const held = {
    lostAfterMs: 720_000,
    otherRegions: new Set(["eu", "ap", "sa"]),
    exportsChanged: (exported: ReadonlyMap<string, IsExported>) => {
      inUse = exported.get("us1");
      useCount += 1;
    },
  };
  const heard = new HeardRules();
  const narrowed = new PolicyWithdrawal({ held, clusterId: "us1", region: "us", neighbours });
  narrowed.follow(heard);
  let monoMs = 0;
  const time = () => ({ monoMs, wallMs: monoMs });
  return {
    heard,
    narrowed,
    uses: () => useCount,
    look: (forMs = 500, members: Parameters<PolicyWithdrawal["look"]>[0] = []) => {
      for (const endMs = monoMs + forMs; monoMs < endMs; ) {
        monoMs += 500;
        narrowed.look(members, time());
      }
    },
    lets: (namespace: string, region: string) => inUse === undefined || inUse(namespace, region),
    reachTo: (region: string) => narrowed.reachTo(region, ["*"], time()),
  };
}
const EU1 = { clusterId: "eu1", region: "eu", reached: [] };
const AP1 = { clusterId: "ap1", region: "ap", reached: [] };
const reachOf = (region: string, ...patterns: readonly string[]): Reach => ({ hops: 1, regions: [region], patterns });

test("what a neighbour has of another one supports it, by the region of the source, and nothing supports itself", () => {
  const { heard, look, lets, reachTo } = relayOf();
  expect(reachTo("eu")).toEqual([{ hops: 1, regions: [], patterns: ["*"] }]);
  heard.heard(1, { ...EU1, exports: ["*"] });
  heard.heard(2, { ...AP1, exports: ["*"], reached: [reachOf("sa", "svc"), reachOf("us", "own")] });
  look();
  expect([lets("svc", "sa"), lets("inner", "sa"), lets("inner", "eu"), lets("inner", "ap")]).toEqual([true, false, true, true]);
  expect(reachTo("eu")).toEqual([reachOf("ap", "*"), { ...reachOf("sa", "svc"), hops: 2 }]);
  expect(reachTo("ap")).toEqual([reachOf("eu", "*")]);
});

test("what one neighbour exports no more waits for the word of others, also while another rule flaps, and more is used at once", () => {
  const { heard, look, lets } = relayOf();
  heard.heard(1, { ...EU1, exports: ["svc", "inner"] });
  heard.heard(2, { ...AP1, exports: ["svc"] });
  look();
  heard.heard(1, { ...EU1, exports: ["svc"] });
  look(2000);
  expect(lets("inner", "eu")).toBe(true);
  heard.heard(2, { ...AP1, exports: ["svc"], reached: [reachOf("eu", "inner")] });
  look(20_000);
  expect(lets("inner", "eu")).toBe(false);
  // It tells no more of eu than it exports itself.
  heard.heard(2, { ...AP1, exports: ["svc", "inner"], reached: [reachOf("eu", "inner")] });
  look(60_000);
  expect(lets("inner", "eu")).toBe(true);
  heard.heard(2, { ...AP1, exports: ["svc"] });
  for (let n = 0; n < 10; n++) {
    heard.heard(2, { ...AP1, exports: n % 2 === 0 ? ["svc", "x"] : ["svc"] });
    look();
  }
  look(500);
  expect([lets("inner", "eu"), lets("svc", "eu")]).toEqual([false, true]);
});

test("what a wide rule let in before anybody looked is looked at again when it is narrow", () => {
  const { heard, look, uses, lets } = relayOf(NEIGHBOURS);
  heard.heard(1, { ...EU1, exports: ["svc"] });
  look();
  expect(uses()).toBe(1);
  heard.heard(1, { ...EU1, exports: ["svc", "inner"] });
  expect(lets("inner", "eu")).toBe(true);
  heard.heard(1, { ...EU1, exports: ["svc"] });
  look(5000);
  expect([uses(), lets("inner", "eu")]).toEqual([2, false]);
  // Also by a link that ends, and once.
  heard.heard(2, { ...EU1, exports: ["*"] });
  heard.closed(2);
  look(60_000);
  expect(uses()).toBe(3);
  heard.heard(1, { ...EU1, exports: ["svc.a"] });
  heard.heard(1, { ...EU1, exports: ["svc"] });
  look(60_000);
  expect(uses()).toBe(3);
});

test("a later word that another node of the cluster heard counts above what this one heard before", () => {
  const { heard, look, lets, narrowed } = relayOf([...NEIGHBOURS, { clusterId: "eu2", region: "eu" }]);
  heard.heard(1, { ...EU1, exports: ["*"] });
  heard.heard(2, { ...EU1, clusterId: "eu2", exports: ["svc"] });
  look();
  heard.closed(1);
  look();
  const rule = { clusterId: "eu1", region: "eu", isHeard: true, hasLink: true, exports: ["svc"] };
  look(500, [{ clusterId: "us1", heardRules: [rule] }]);
  look(30_000);
  expect([narrowed.told[0], lets("inner", "eu")]).toEqual([{ ...rule, hasLink: false }, false]);
});

test("a neighbour that is away supports what it told last, for a ttl and stale_keep, and one that nobody ever heard is lenient for as long", () => {
  const { heard, look, lets, reachTo } = relayOf([...NEIGHBOURS, { clusterId: "ap1", region: "ap" }, { clusterId: "sa1", region: "sa" }]);
  heard.heard(1, { ...EU1, exports: ["svc"] });
  heard.heard(2, { ...AP1, exports: ["*"], reached: [reachOf("eu", "inner")] });
  look();
  heard.closed(2);
  look(700_000);
  expect([lets("inner", "eu"), reachTo("sa")]).toEqual([
    true,
    [reachOf("ap", "*"), reachOf("eu", "svc"), { ...reachOf("eu", "inner"), hops: 2 }],
  ]);
  expect(reachTo("ap")).toEqual([{ hops: 1, regions: [], patterns: ["*"] }]);
  look(60_000);
  expect([lets("inner", "eu"), reachTo("ap"), reachTo("sa")]).toEqual([false, [reachOf("eu", "svc")], [reachOf("eu", "svc")]]);
});

test("members are told of a neighbour's reach only what the cluster does not hear nearer, and each neighbour has its own bound", () => {
  const { heard, look, narrowed } = relayOf();
  const told = () => narrowed.told.map(({ reached }) => reached);
  heard.heard(1, { ...EU1, exports: ["svc"] });
  heard.heard(2, { ...AP1, exports: ["*"], reached: [reachOf("eu", "svc.x"), reachOf("sa", "*")] });
  look();
  expect(told()).toEqual([undefined, [reachOf("sa", "*")]]);
  for (let n = 0; n < 20; n++) {
    heard.heard(1, { ...EU1, exports: n % 2 === 0 ? ["inner"] : ["svc"] });
    look();
  }
  heard.heard(2, { ...AP1, exports: ["*"], reached: [reachOf("sa", "svc")] });
  look();
  expect(told()[1]).toEqual([reachOf("sa", "svc")]);
});
