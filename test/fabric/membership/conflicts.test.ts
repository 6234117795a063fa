import { expect, test } from "vitest";
import { IdConflicts } from "../../../src/fabric/membership/conflicts.ts";
import type { MemberUpdate } from "../../../src/fabric/wire/messages.ts";
import { factsOf } from "../membership-world.ts";

const OPTIONS = { maxConflicts: 2, conflictMs: 5000, intervalMs: 1000 };

function claim(nodeId: string, address: string, incarnation = 1): MemberUpdate {
  return { ...factsOf(nodeId), address, status: "alive", incarnation, accuser: "" };
}

test("newcomers are kept up to a bound, each in its newest word", () => {
  const conflicts = new IdConflicts(OPTIONS, "c1");
  expect(conflicts.add(claim("a", "x:1", 5), "address", 0, "k")).toBe("new");
  expect(conflicts.add(claim("a", "x:1", 4), "address", 0, "k")).toBe("known");
  expect(conflicts.add(claim("a", "y:1", 6), "address", 0, "k")).toBe("known");
  expect(conflicts.find("a")?.update.address).toBe("y:1");
  expect(conflicts.add({ ...claim("a", "z:1", 1), generation: 2 }, "life", 0, "k")).toBe("known");
  expect(conflicts.find("a")?.update.address).toBe("z:1");
  expect(conflicts.add(claim("b", "x:1"), "address", 0, "k")).toBe("new");
  expect(conflicts.add(claim("c", "x:1"), "address", 0, "k")).toBe("full");
  conflicts.drop("a");
  expect(conflicts.size).toBe(1);
});

test("who waited for an id or an address comes free with it", () => {
  const conflicts = new IdConflicts(OPTIONS, "c1");
  conflicts.add(claim("a", "x:1"), "address", 0, "k");
  conflicts.add(claim("b", "y:1"), "life", 0, "k");
  expect(conflicts.release("other", "z:1")).toEqual([]);
  expect(conflicts.release("b", "z:1").map(({ update }) => update.nodeId)).toEqual(["b"]);
  expect(conflicts.release("other", "x:1").map(({ update }) => update.nodeId)).toEqual(["a"]);
  expect(conflicts.release("other", "x:1")).toEqual([]);
});

test("each is checked once an interval, and forgotten when it waited too long", () => {
  const conflicts = new IdConflicts(OPTIONS, "c1");
  expect(conflicts.nextDeadlineMs()).toBe(Number.POSITIVE_INFINITY);
  conflicts.add(claim("a", "x:1"), "address", 100, "k");
  expect(conflicts.due(100)).toHaveLength(1);
  expect(conflicts.due(1000)).toHaveLength(0);
  expect(conflicts.nextDeadlineMs()).toBe(1100);
  expect(conflicts.due(1100)).toHaveLength(1);
  expect(conflicts.due(5100)).toHaveLength(0);
  expect(conflicts.size).toBe(0);
});

test("of words as new as each other the last one counts, and one as new as what was settled waits no longer", () => {
  const conflicts = new IdConflicts(OPTIONS, "c1");
  conflicts.add(claim("a", "x:1", 5), "address", 0, "k");
  expect(conflicts.add(claim("a", "y:1", 5), "start", 0, "l")).toBe("known");
  expect(conflicts.find("a")).toMatchObject({ reason: "start", tellerId: "l", update: { address: "y:1" } });
  conflicts.dropUpTo(claim("a", "z:1", 4));
  expect(conflicts.size).toBe(1);
  conflicts.dropUpTo(claim("a", "z:1", 5));
  expect(conflicts.size).toBe(0);
});

test("another cluster's newcomers have no more than what is free, and what ours take is none of their half", () => {
  const conflicts = new IdConflicts({ ...OPTIONS, maxConflicts: 8 }, claim("a", "x:1").clusterId);
  const add = (nodeId: string, clusterId: string) => conflicts.add({ ...claim(nodeId, "x:1"), clusterId }, "address", 0, "k");
  const { clusterId } = claim("a", "x:1");
  for (let i = 0; i < 4; i++) add(`ours${i}`, clusterId);
  expect(add("theirs", "other")).toBe("new");
  for (let i = 4; i < 7; i++) expect(add(`ours${i}`, clusterId)).toBe("new");
  expect([conflicts.size, add("theirs-too", "other"), add("ours7", clusterId)]).toEqual([8, "full", "full"]);
});
