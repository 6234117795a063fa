import { expect, test } from "vitest";
import type { VersionFacts } from "../../../src/policy/versions/facts.ts";
import { MAX_SUPERSEDED, Superseded } from "../../../src/policy/versions/superseded.ts";

function facts(number: number, nodeId: string, hlc = 1): VersionFacts {
  const said = { version: "v", defaultAllow: false, ruleCount: 0, appliedWallMs: 1, principal: "ann", reason: "", changeTicket: "" };
  const rest = { lineage: [], stage: undefined, changes: [], changesLeftOut: 0 };
  return { number, nodeId, hlc, checksum: `${number}${nodeId}`, ...said, ...rest };
}

test("a conflict is told until the next version follows", () => {
  const superseded = new Superseded();
  expect(superseded.conflict).toBe("");
  superseded.flag(facts(2, "b"), facts(2, "a"));
  expect(superseded.conflict).toBe("version 2 of ann at b was superseded by version 2 of ann at a, which does not follow it");
  superseded.clear();
  expect(superseded.conflict).toBe("");
  superseded.flag(facts(2, ""), facts(3, "a"));
  expect(superseded.conflict).toContain("at an unknown node was superseded by version 3");
});

test("losers are kept newest first, so many; those that go are told", () => {
  const superseded = new Superseded();
  const gone = Array.from({ length: MAX_SUPERSEDED + 2 }, (_, i) => superseded.add(facts(i, "b"))).flat();
  expect(gone.map(({ number }) => number)).toEqual([0, 1]);
  expect(superseded.list.map(({ number }) => number)).toEqual(Array.from({ length: MAX_SUPERSEDED }, (_, i) => MAX_SUPERSEDED + 1 - i));
});

test("after a restart the conflict is told again where the newest number has a loser", () => {
  const superseded = new Superseded();
  superseded.restore([facts(4, "b"), facts(2, "c")], facts(4, "a"));
  expect(superseded.list.map(({ number }) => number)).toEqual([4, 2]);
  expect(superseded.conflict).toContain("version 4 of ann at b");
  superseded.restore([facts(4, "b"), facts(2, "c")], facts(5, "a"));
  expect(superseded.conflict).toBe("");
  // A crash between keeping the loser and the winner's taking its place leaves the same version twice.
  superseded.restore([facts(4, "a")], facts(4, "a"));
  expect(superseded.conflict).toBe("");
});
