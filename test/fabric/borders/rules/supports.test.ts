import { expect, test } from "vitest";
import { BORDER_FIXED } from "../../../../src/fabric/borders/options.ts";
import type { Counting } from "../../../../src/fabric/borders/rules/heard-rules.ts";
import { Supports } from "../../../../src/fabric/borders/rules/supports.ts";
import type { HeardRule } from "../../../../src/fabric/wire/messages.ts";

const REGIONS = new Set(["eu", "ap"]);
const NEW = { isSettled: false, isLost: false };
const rowOf = (region: string, ...exports: readonly string[]): HeardRule => {
  return { clusterId: `${region}1`, region, isHeard: true, hasLink: true, exports };
};
const heard = (...rules: readonly HeardRule[]): ReadonlyMap<string, Counting> => new Map([["us1", { rules, unheard: [] }]]);

/** What us1 is let through of `inner`, when that is to be used anew. */
function followed(supports: Supports, countings: ReadonlyMap<string, Counting>, monoMs: number): readonly boolean[] | undefined {
  const restricted = supports.follow(countings, REGIONS, NEW, monoMs);
  return restricted?.map(([, support]) => support.covers("inner", "eu"));
}

test("more counts at once; less waits for 3 s unless one region alone has a say; and what nobody knows any more stays", () => {
  const supports = new Supports(BORDER_FIXED);
  expect(followed(supports, heard(rowOf("eu", "svc"), rowOf("ap", "svc")), 0)).toEqual([false]);
  expect(followed(supports, heard(rowOf("eu", "svc", "inner"), rowOf("ap", "svc")), 1)).toEqual([true]);
  const less = heard(rowOf("eu", "svc"), rowOf("ap", "svc"));
  expect([followed(supports, less, 10), followed(supports, less, 3009), followed(supports, less, 3010)]).toEqual([
    undefined,
    undefined,
    [false],
  ]);
  const nobodyKnows = new Map([["us1", { rules: [], unheard: [{ clusterId: "eu1", region: "eu" }] }]]);
  expect(followed(supports, nobodyKnows, 60_000)).toBeUndefined();
  const alone = new Supports(BORDER_FIXED);
  followed(alone, heard(rowOf("eu", "inner")), 0);
  expect(followed(alone, heard(rowOf("eu", "svc")), 1)).toEqual([false]);
});

test("where everything of all regions is let through nothing is restricted, and it is used three times at once", () => {
  const supports = new Supports(BORDER_FIXED);
  const [all, few] = [heard(rowOf("eu", "*"), rowOf("ap", "*")), heard(rowOf("eu", "svc"), rowOf("ap", "svc"))];
  expect(followed(supports, all, 0)).toBeUndefined();
  const uses = [followed(supports, few, 1), followed(supports, few, 3001), followed(supports, all, 3002), followed(supports, few, 3003)];
  expect(uses).toEqual([undefined, [false], [], undefined]);
  expect([followed(supports, few, 6003), followed(supports, all, 6004), followed(supports, all, 30_000)]).toEqual([[false], undefined, []]);
});

test("what a rule let in that is past is looked at again, once", () => {
  const supports = new Supports(BORDER_FIXED);
  const few = heard(rowOf("eu", "svc"));
  followed(supports, few, 0);
  const past = (...exports: readonly string[]) => [{ told: { ...rowOf("eu", ...exports), reached: [] }, isClosed: false }];
  supports.ended("us1", past("svc"));
  expect(followed(supports, few, 1)).toBeUndefined();
  supports.ended("us1", past("inner"));
  expect([followed(supports, few, 2), followed(supports, few, 3)]).toEqual([[false], undefined]);
});
