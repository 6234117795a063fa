import { expect, test } from "vitest";
import { readRosterFile } from "../../../src/fabric/snapshot/codec.ts";
import { NEVER } from "../../../src/lib/machine.ts";
import { RosterFile } from "../../../src/node/core/roster-file.ts";
import { at } from "../../fakes/registry.ts";

const SELF = { nodeId: "n1", clusterId: "c1" };

test("the members are written when they changed, one file at a time", () => {
  const roster = { version: 0, nodeIds: ["n2"], list: () => roster.nodeIds };
  const file = new RosterFile(roster, SELF);
  expect(file.isDue(at(0))).toBe(false);
  roster.version = 1;
  expect([file.isDue(at(0)), file.isDue(at(0))]).toEqual([true, false]);
  Object.assign(roster, { version: 2, nodeIds: ["n2", "n3"] });
  expect(file.isDue(at(1))).toBe(false);
  file.written(true, at(2));
  expect([file.isDue(at(2)), readRosterFile(file.bytes(), SELF, 10)]).toEqual([true, ["n2", "n3"]]);
  file.written(true, at(3));
  expect([file.isDue(at(3)), file.nextDeadlineMs()]).toEqual([false, NEVER]);
});

test("what could not be written is tried again a second later, as it is then", () => {
  const roster = { version: 1, list: () => ["n2"] };
  const file = new RosterFile(roster, SELF);
  expect(file.isDue(at(0))).toBe(true);
  file.written(false, at(10));
  expect([file.isDue(at(1009)), file.nextDeadlineMs(), file.isDue(at(1010)), file.nextDeadlineMs()]).toEqual([
    false,
    at(1010).monoMs,
    true,
    NEVER,
  ]);
});
