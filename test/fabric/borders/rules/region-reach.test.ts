import { expect, test } from "vitest";
import { RegionReach } from "../../../../src/fabric/borders/rules/region-reach.ts";
import type { HeardRule } from "../../../../src/fabric/wire/messages.ts";

const EU: HeardRule = { clusterId: "eu1", region: "eu", isHeard: true, hasLink: true, exports: ["svc"] };
const AP = { clusterId: "ap1", region: "ap" };
const NEW = { isSettled: false, isLost: false };

test("a neighbour is told what the region holds through others, and all of it as long as one may export anything that nobody heard", () => {
  const reach = new RegionReach("us");
  reach.follow([{ rules: [EU], unheard: [AP] }], NEW);
  expect(reach.toldTo("eu", ["*"])).toEqual([{ hops: 1, regions: [], patterns: ["*"] }]);
  expect(reach.toldTo("ap", ["*"])).toEqual([{ hops: 1, regions: ["eu"], patterns: ["svc"] }]);
  expect(reach.revision).toBe(1);
  reach.follow([{ rules: [EU], unheard: [AP] }], { isSettled: true, isLost: false });
  expect(reach.revision).toBe(1);
  reach.follow([{ rules: [EU], unheard: [AP] }], { isSettled: true, isLost: true });
  expect([reach.revision, reach.toldTo("eu", ["*"]), reach.toldTo("ap", ["inner"])]).toEqual([2, [], []]);
});

test("a neighbour of which one cluster heard nothing is not waited for where another cluster has a link with its region", () => {
  const reach = new RegionReach("us");
  const countings = [
    { rules: [EU], unheard: [] },
    { rules: [], unheard: [{ clusterId: "eu2", region: "eu" }] },
  ];
  reach.follow(countings, NEW);
  expect(reach.toldTo("ap", ["inner"])).toEqual([{ hops: 1, regions: [], patterns: ["inner"] }]);
  reach.follow(countings, { isSettled: true, isLost: false });
  expect(reach.toldTo("ap", ["*"])).toEqual([{ hops: 1, regions: ["eu"], patterns: ["svc"] }]);
});
