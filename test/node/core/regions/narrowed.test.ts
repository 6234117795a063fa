import { expect, test } from "vitest";
import { HeardRules } from "../../../../src/fabric/borders/heard-rules.ts";
import type { HeardRule } from "../../../../src/fabric/wire/messages.ts";
import { Narrowed } from "../../../../src/node/core/regions/narrowed.ts";

const NEIGHBOURS = [{ clusterId: "eu1", region: "eu" }];

/** A node of us1 that judges each half second. */
function nodeOf() {
  const uses: (readonly [string, boolean])[][] = [];
  let inUse: ReadonlyMap<string, (namespace: string) => boolean> = new Map();
  const held = {
    lostAfterMs: 720_000,
    exportsChanged: (exported: ReadonlyMap<string, (namespace: string) => boolean>) => {
      inUse = exported;
      uses.push([...exported].map(([cluster, lets]) => [cluster, lets("inner")] as const));
    },
  };
  const heard = new HeardRules();
  const narrowed = new Narrowed({ held, clusterId: "us1", neighbours: NEIGHBOURS });
  narrowed.follow(heard);
  let monoMs = 0;
  let toldCount = 0;
  const look = (members: Parameters<Narrowed["look"]>[0] = []) => {
    monoMs += 500;
    if (narrowed.look(members, { monoMs, wallMs: monoMs })) toldCount += 1;
  };
  return { heard, narrowed, look, uses, told: () => toldCount, lets: (namespace: string) => inUse.get("us1")?.(namespace) };
}

test("a rule that flaps is told and used a bounded number of times, and the last one counts in the end", () => {
  const { heard, narrowed, look, uses, told } = nodeOf();
  for (let n = 0; n < 1200; n++) {
    heard.heard(1, "eu1", n % 2 === 0 ? ["svc"] : ["*"]);
    look();
  }
  // Three at once, and one each 20 s for ten minutes.
  expect(Math.max(told(), uses.length)).toBeLessThanOrEqual(3 + 30);
  heard.heard(1, "eu1", ["svc"]);
  for (let n = 0; n < 100; n++) look();
  expect([uses.at(-1), narrowed.told.map(({ exports }) => exports)]).toEqual([[["us1", false]], [["svc"]]]);
});

test("what comes with a wider rule on a link of this node passes before anybody is told; what is not known any more stays in use", () => {
  const { heard, look, uses, lets } = nodeOf();
  heard.heard(1, "eu1", ["svc"]);
  look();
  expect(uses).toEqual([[["us1", false]]]);
  heard.heard(1, "eu1", ["svc", "inner"]);
  expect([lets("inner"), lets("other")]).toEqual([true, false]);
  const told: HeardRule[] = [{ clusterId: "ap1", region: "ap", isHeard: false, hasLink: false, exports: [] }];
  look([{ clusterId: "us1", heardRules: told }]);
  expect(uses).toHaveLength(1);
  look();
  expect(uses.at(-1)).toEqual([["us1", true]]);
});

test("each cluster is judged by what its own nodes heard, and one that says nothing is not judged", () => {
  const { heard, look, uses } = nodeOf();
  heard.heard(1, "eu1", ["*"]);
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
  let lets: ((namespace: string) => boolean) | undefined;
  const held = { lostAfterMs: 720_000, exportsChanged: (exported: typeof uses) => (lets = exported.get("us1")) };
  const uses: ReadonlyMap<string, (namespace: string) => boolean> = new Map();
  const neighbours = [...NEIGHBOURS, { clusterId: "eu2", region: "eu" }];
  const narrowed = new Narrowed({ held, clusterId: "us1", neighbours });
  narrowed.follow(heard);
  heard.heard(1, "eu1", ["svc"]);
  const row = (clusterId: string, ...exports: readonly string[]): HeardRule => ({
    clusterId,
    region: "eu",
    isHeard: true,
    hasLink: true,
    exports,
  });
  const look = (monoMs: number, heardRules?: readonly HeardRule[]) =>
    narrowed.look(heardRules === undefined ? [] : [{ clusterId: "us1", heardRules }], { monoMs, wallMs: monoMs });
  look(0, [row("eu2", "inner")]);
  look(100_000, [row("eu2", "inner")]);
  expect([lets?.("inner"), lets?.("other")]).toEqual([true, false]);
  look(200_000);
  look(400_000);
  expect([lets?.("inner"), narrowed.told[1]]).toEqual([true, { ...row("eu2", "inner"), hasLink: false }]);
  look(500_000, [row("eu2", "other")]);
  expect([lets?.("inner"), lets?.("other")]).toEqual([false, true]);
  look(1_230_000);
  look(1_260_000);
  expect([lets?.("other"), narrowed.told[1]?.isHeard]).toEqual([false, false]);
});

test("of a cluster 64 neighbours are remembered, however many its nodes make up", () => {
  const { look, uses } = nodeOf();
  const row = (clusterId: string, ...exports: readonly string[]): HeardRule => ({
    clusterId,
    region: "eu",
    isHeard: true,
    hasLink: true,
    exports,
  });
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
