import { expect, test } from "vitest";
import { makeTable, pushPullPeriodMs } from "../../../src/fabric/membership/member-table.ts";
import { Members } from "../../../src/fabric/membership/members.ts";
import { MembershipState } from "../../../src/fabric/membership/state.ts";
import type { MemberStatus, MemberUpdate } from "../../../src/fabric/wire/messages.ts";
import { MEMBERSHIP_OPTIONS } from "../../fakes/options.ts";
import { factsOf } from "../membership-world.ts";

test.each([
  { memberCount: 2, wantMs: 30_000 },
  { memberCount: 32, wantMs: 30_000 },
  { memberCount: 33, wantMs: 60_000 },
  { memberCount: 200, wantMs: 120_000 },
  { memberCount: 1000, wantMs: 180_000 },
])("among $memberCount tables are exchanged every $wantMs ms", ({ memberCount, wantMs }) => {
  expect(pushPullPeriodMs(30_000, memberCount)).toBe(wantMs);
});

function said(nodeId: string, status: MemberStatus, incarnation = 1): MemberUpdate {
  return { ...factsOf(nodeId), status, incarnation, accuser: "" };
}

function known(): MembershipState {
  const state = new MembershipState(factsOf("self"), MEMBERSHIP_OPTIONS);
  const time = { monoMs: 0, wallMs: 0 };
  for (const update of [said("a", "alive"), said("b", "suspect"), said("c", "alive"), said("c", "left"), said("d", "dead")]) {
    state.learn(update, { nodeId: "a", path: "table" }, time, []);
  }
  return state;
}

function names(table: readonly MemberUpdate[]): readonly string[] {
  return table.map(({ nodeId, status }) => `${nodeId} ${status}`);
}

test("a table holds self, the listed, and those whose going was seen not long ago", () => {
  expect(names(makeTable(known(), { nowMonoMs: 1000, deadTellMs: 5000, maxMembers: 100 }))).toEqual([
    "self alive",
    "a alive",
    "b suspect",
    "c left",
  ]);
  expect(names(makeTable(known(), { nowMonoMs: 6000, deadTellMs: 5000, maxMembers: 100 }))).toEqual(["self alive", "a alive", "b suspect"]);
  expect(makeTable(known(), { nowMonoMs: 6000, deadTellMs: 5000, maxMembers: 2 })).toHaveLength(2);
});

test("tables that list the same have equal digests, whatever came before; suspicions do not count, other lives do", () => {
  const a = known().members;
  const b = new Members();
  const own = said("self", "alive");
  for (const update of [said("b", "alive"), said("a", "alive"), said("x", "alive"), said("x", "dead")]) b.put(update, 0);
  expect(b.digestWith(own)).toBe(a.digestWith(own));
  expect(b.digestWith({ ...own, incarnation: 2 })).not.toBe(a.digestWith(own));
  b.put(said("a", "alive", 2), 0);
  expect(b.digestWith(own)).not.toBe(a.digestWith(own));
  b.put(said("a", "dead", 2), 0);
  const c = new Members();
  c.put(said("b", "suspect"), 0);
  expect(b.digestWith(own)).toBe(c.digestWith(own));
  const [, ...gone] = b.all();
  for (const member of gone) b.forget(member);
  expect(b.digestWith(own)).toBe(c.digestWith(own));
});

test("who left entries behind is in the digest after it went, by how it went, until it is forgotten", () => {
  const kept = (status: MemberStatus): MemberUpdate => ({ ...said("kept", status), keepsEntries: true });
  const own = said("self", "alive");
  const digestOf = (...updates: readonly MemberUpdate[]): bigint => {
    const members = new Members();
    for (const update of updates) members.put(update, 0);
    return members.digestWith(own);
  };
  const gone = digestOf(kept("dead"));
  expect(new Set([digestOf(), digestOf(kept("alive")), gone, digestOf(kept("left"))]).size).toBe(4);
  expect([digestOf(kept("alive"), kept("suspect"), kept("dead")), digestOf(said("kept", "dead"))]).toEqual([gone, digestOf()]);
  const members = new Members();
  members.forget(members.put(kept("dead"), 0).member);
  expect(members.digestWith(own)).toBe(digestOf());
});

test("an asker hears what it did not say, and what is held of itself however old that is", () => {
  const asker = { from: { nodeId: "d", generation: 1 }, members: [said("d", "alive"), said("a", "alive"), said("b", "alive")] };
  expect(names(makeTable(known(), { nowMonoMs: 6000, deadTellMs: 5000, maxMembers: 100 }, asker))).toEqual([
    "self alive",
    "b suspect",
    "d dead",
  ]);
});
