import { expect, test } from "vitest";
import { RememberedRules } from "../../../../src/fabric/borders/rules/remembered-rules.ts";
import type { HeardRule } from "../../../../src/fabric/wire/messages.ts";

const rowOf = (clusterId: string, hasLink: boolean, ...exports: readonly string[]): HeardRule => ({
  clusterId,
  region: "eu",
  isHeard: true,
  hasLink,
  exports,
});

test("what a neighbour told while somebody had a link with it counts for its time, and only where rows name the neighbour", () => {
  const remembered = new RememberedRules(1000);
  const [linked, away] = [rowOf("eu1", true, "svc"), rowOf("eu1", false, "svc")];
  expect(remembered.follow("us1", [linked], 0)).toEqual([away]);
  expect(remembered.follow("us1", [rowOf("eu1", false, "old")], 900)).toEqual([away]);
  expect(remembered.follow("us1", [], 900)).toEqual([]);
  expect([remembered.lastOf("us1", "eu1", 999), remembered.lastOf("us2", "eu1", 999)]).toEqual([away, undefined]);
  expect(remembered.lastOf("us1", "eu1", 1000)).toBeUndefined();
  expect(remembered.follow("us1", [away], 1000)).toEqual([]);
  expect([...remembered.clusters]).toEqual([]);
});

test("of several nodes that had a link all counts, and the last word of a link that ended", () => {
  const remembered = new RememberedRules(1000);
  expect(remembered.follow("us1", [rowOf("eu1", true, "svc"), rowOf("eu1", true, "inner")], 0)).toEqual([
    rowOf("eu1", false, "inner", "svc"),
  ]);
  remembered.note("us1", [{ clusterId: "eu1", region: "eu", exports: ["other"] }], 10);
  expect(remembered.lastOf("us1", "eu1", 10)).toEqual(rowOf("eu1", false, "other"));
});

test("of a cluster the 64 neighbours are remembered that were told last", () => {
  const remembered = new RememberedRules(1000);
  for (let n = 0; n < 70; n++) remembered.follow("us1", [rowOf(`eu${n}`, true, "svc")], n);
  const isKnown = (n: number) => remembered.lastOf("us1", `eu${n}`, 70) !== undefined;
  expect([isKnown(5), isKnown(6), isKnown(69)]).toEqual([false, true, true]);
});
