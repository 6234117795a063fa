import { expect, test } from "vitest";
import { LocalMember } from "../../../src/fabric/membership/local-member.ts";
import { factsOf } from "../membership-world.ts";

test("a later life speaks in a greater incarnation than the one before", () => {
  const before = new LocalMember(factsOf("a"));
  before.begin(1_700_000_000_000);
  for (let i = 0; i < 5; i++) before.refute(0);
  const after = new LocalMember(factsOf("a"));
  after.begin(1_700_000_060_000);
  expect(after.update.incarnation).toBeGreaterThan(before.update.incarnation);
  after.begin(1_800_000_000_000);
  expect(after.update.incarnation).toBe(1_700_000_060);
});

test("a contradiction is newer than what was heard and than all own words", () => {
  const self = new LocalMember(factsOf("a"));
  self.begin(10_000);
  expect(self.refute(3).incarnation).toBe(11);
  expect(self.refute(100).incarnation).toBe(101);
});

test("changed facts and leaving are newer words too", () => {
  const self = new LocalMember(factsOf("a"));
  self.begin(10_000);
  expect(self.change(factsOf("a", { generation: 2, zone: "z9" }))).toMatchObject({ incarnation: 11, zone: "z9", status: "alive" });
  expect(self.ref).toEqual({ nodeId: "a", generation: 2, clusterId: "c1", region: "r1" });
  expect(self.isLeft).toBe(false);
  expect(self.leave()).toMatchObject({ incarnation: 12, status: "left" });
  expect(self.isLeft).toBe(true);
});
