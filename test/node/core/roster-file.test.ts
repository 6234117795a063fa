import { expect, test } from "vitest";
import { readRosterFile } from "../../../src/fabric/snapshot/codec.ts";
import { NEVER } from "../../../src/lib/machine.ts";
import { RosterFile } from "../../../src/node/core/roster-file.ts";
import { driven } from "../../fakes/node-part.ts";
import { at } from "../../fakes/registry.ts";

const SELF = { nodeId: "n1", clusterId: "c1" };

function open(version: number) {
  const roster = { version, nodeIds: ["n2"], list: () => roster.nodeIds };
  const joined = { fabric: { lifecycle: { roster } }, facts: SELF };
  const file = new RosterFile(() => joined);
  const give = driven(file);
  const written = (ms: number) =>
    give({ kind: "tick" }, at(ms)).map((output) => output.kind === "keepRoster" && readRosterFile(output.bytes, SELF, 10));
  const kept = (isKept: boolean, ms: number) =>
    give({ kind: "rosterKept", isKept }, at(ms)).map((output) => output.kind === "keepRoster" && readRosterFile(output.bytes, SELF, 10));
  return { roster, file, written, kept };
}

test("the members are written when they changed, one file at a time", () => {
  const { roster, file, written, kept } = open(0);
  expect(written(0)).toEqual([]);
  roster.version = 1;
  expect([written(0), written(0)]).toEqual([[["n2"]], []]);
  Object.assign(roster, { version: 2, nodeIds: ["n2", "n3"] });
  expect(written(1)).toEqual([]);
  expect(kept(true, 2)).toEqual([["n2", "n3"]]);
  expect(kept(true, 3)).toEqual([]);
  expect(file.nextDeadlineMs()).toBe(NEVER);
});

test("what could not be written is tried again a second later, as it is then", () => {
  const { file, written, kept } = open(1);
  expect(written(0)).toEqual([["n2"]]);
  expect(kept(false, 10)).toEqual([]);
  expect([written(1009), file.nextDeadlineMs(), written(1010), file.nextDeadlineMs()]).toEqual([[], at(1010).monoMs, [["n2"]], NEVER]);
});

test("a node that stands alone writes none", () => {
  const file = new RosterFile(() => undefined);
  expect([driven(file)({ kind: "tick" }, at(0)), file.nextDeadlineMs()]).toEqual([[], NEVER]);
});
