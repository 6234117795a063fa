/** Who is passed over because no link to it could be opened. */
import { expect, test } from "vitest";
import { UnreachableMembers } from "../../../src/fabric/links/unreachable.ts";

const ONE_FAILURE = { passOverAttempts: 1, passOverMs: 1000, maxPassOverMs: 1000, countMs: 100_000 };

const at = (monoMs: number) => ({ monoMs, wallMs: 0 });

test("one failure is nothing; two in a row pass a member over, for twice as long each time", () => {
  const reach = new UnreachableMembers({ ...ONE_FAILURE, passOverAttempts: 2, maxPassOverMs: 3000 });
  expect(reach.failed("a", at(0))).toBe(false);
  expect(reach.isPassedOver("a", at(0))).toBe(false);
  const lengths = [0, 10_000, 20_000, 30_000].map((nowMs) => {
    if (nowMs > 0) reach.failed("a", at(nowMs));
    expect(reach.failed("a", at(nowMs))).toBe(true);
    return reach.nextDeadlineMs() - nowMs;
  });
  expect(lengths[0]).toBe(1000);
  expect(reach.isPassedOver("a", at(32_999))).toBe(true);
  expect(reach.isPassedOver("a", at(33_000))).toBe(false);
  expect(reach.isPassedOver("b", at(0))).toBe(false);
});

test("a link that came up makes good for all that failed", () => {
  const reach = new UnreachableMembers();
  reach.failed("a", at(0));
  reach.failed("a", at(0));
  reach.reached("a");
  expect(reach.isPassedOver("a", at(0))).toBe(false);
  expect(reach.failed("a", at(0))).toBe(false);
});

test("what is due is told once, and those that are members no more are forgotten", () => {
  const reach = new UnreachableMembers(ONE_FAILURE);
  reach.failed("a", at(0));
  reach.failed("b", at(500));
  expect(reach.takeDue(at(999))).toBe(false);
  expect(reach.takeDue(at(1000))).toBe(true);
  expect(reach.takeDue(at(1000))).toBe(false);
  expect(reach.candidates([{ nodeId: "b" }, { nodeId: "c" }], new Map(), at(1000))).toEqual([{ nodeId: "c" }]);
  expect(reach.nextDeadlineMs()).toBe(1500);
  expect(reach.isPassedOver("a", at(0))).toBe(false);
});

test("one that is linked is a candidate all the same; when nobody is in reach, all are", () => {
  const reach = new UnreachableMembers(ONE_FAILURE);
  const members = [{ nodeId: "a" }, { nodeId: "b" }];
  for (const { nodeId } of members) reach.failed(nodeId, at(0));
  expect(reach.candidates(members, new Map(), at(1))).toEqual(members);
  expect(reach.candidates(members, new Map([["b", 1]]), at(1))).toEqual([{ nodeId: "b" }]);
});

test("one that is passed over is to be in step with for a while, and then not, also when it is tried again", () => {
  const reach = new UnreachableMembers({ ...ONE_FAILURE, countMs: 500 });
  const members = [{ nodeId: "a" }, { nodeId: "b" }, { nodeId: "c" }];
  reach.failed("a", at(0));
  expect(reach.nextDeadlineMs()).toBe(500);
  const countedAt = (monoMs: number, wanted: typeof members) => reach.counted(members, wanted, at(monoMs)).map(({ nodeId }) => nodeId);
  expect(countedAt(499, members.slice(1, 2))).toEqual(["a", "b"]);
  expect(countedAt(500, members.slice(1, 2))).toEqual(["b"]);
  expect(countedAt(1500, members.slice(0, 2))).toEqual(["b"]);
  reach.reached("a");
  expect(countedAt(1500, members.slice(0, 2))).toEqual(["a", "b"]);
  for (const { nodeId } of members.slice(0, 2)) reach.failed(nodeId, at(2000));
  expect(countedAt(9000, members.slice(0, 2))).toEqual(["a", "b"]);
});

test("when nothing is tried any more, nothing is due", () => {
  const reach = new UnreachableMembers();
  reach.failed("a", at(0));
  reach.clear();
  expect(reach.nextDeadlineMs()).toBe(Number.POSITIVE_INFINITY);
});

test("with nobody of its own cluster in reach a node insists on all of them, and is not in step without: their news comes by no other", () => {
  const reach = new UnreachableMembers({ ...ONE_FAILURE, countMs: 500 });
  const members = [{ nodeId: "own1" }, { nodeId: "own2" }, { nodeId: "far1" }, { nodeId: "far2" }];
  const cluster = new Set(["own1", "own2"]);
  const linked = new Map([["far1", 1]]);
  for (const nodeId of ["own1", "far2"]) reach.failed(nodeId, at(0));
  const idsOf = (listed: readonly { readonly nodeId: string }[]) => listed.map(({ nodeId }) => nodeId);
  expect(idsOf(reach.candidates(members, linked, at(1), cluster))).toEqual(["own2", "far1"]);
  reach.failed("own2", at(1));
  const wanted = reach.candidates(members, linked, at(2), cluster);
  expect(idsOf(wanted)).toEqual(["own1", "own2", "far1"]);
  expect(idsOf(reach.counted(members, wanted, at(600), cluster))).toEqual(["far1", "own1", "own2"]);
  expect(idsOf(reach.counted(members, wanted, at(600)))).toEqual(["far1"]);
});
