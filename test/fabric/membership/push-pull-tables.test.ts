/** Tables of members that are exchanged: how often, what they hold, and when two of them are equal. */
import { expect, test } from "vitest";
import { Members } from "../../../src/fabric/membership/members.ts";
import type { FabricCallRequest, MemberStatus, MemberUpdate } from "../../../src/fabric/wire/messages.ts";
import { nodeRef } from "../../fakes/fabric-values.ts";
import { type BenchSpec, MemberBench, said as saidOf } from "../membership-bench.ts";
import { factsOf } from "../membership-world.ts";

test.each([
  { memberCount: 2, wantMs: 30_000 },
  { memberCount: 32, wantMs: 30_000 },
  { memberCount: 33, wantMs: 60_000 },
  { memberCount: 200, wantMs: 120_000 },
  { memberCount: 1000, wantMs: 180_000 },
])("among $memberCount tables are exchanged every $wantMs ms, a quarter more or less", ({ memberCount, wantMs }) => {
  const bench = new MemberBench();
  const [join] = bench.join(["n1:1"]);
  const members = Array.from({ length: memberCount - 1 }, (_, i) => saidOf(`n${i + 1}`));
  const answer = { kind: "pushPull", from: nodeRef("n1"), members } as const;
  bench.answer(join, answer);
  const times: number[] = [];
  for (const endMs = 9 * wantMs; bench.nowMs < endMs; )
    for (const call of bench.step()) {
      times.push(call.atMs);
      bench.answer(call, { ...answer, members: [] });
    }
  const waits = times.slice(-3).map((ms, i) => ms - (times.at(-4 + i) ?? 0));
  for (const ms of waits) expect(Math.abs(ms - wantMs)).toBeLessThanOrEqual(wantMs / 4 + 1);
});

function said(nodeId: string, status: MemberStatus, incarnation = 1): MemberUpdate {
  return { ...factsOf(nodeId), status, incarnation, accuser: "" };
}

const KNOWN = [said("a", "alive"), said("b", "suspect"), said("c", "alive"), said("c", "left"), said("d", "dead")];

function known(options: BenchSpec["options"] = {}): MemberBench {
  const bench = new MemberBench({
    options: { deadTellMs: 5000, verifyCount: 0, suspicionFloorMs: 60_000, suspicionCapMs: 60_000, ...options },
  });
  bench.hear(KNOWN, { from: "a", path: "table" });
  return bench;
}

/** What it answers to an exchange. */
function tableOf(bench: MemberBench, more: Partial<Extract<FabricCallRequest, { kind: "pushPull" }>> = {}): readonly string[] {
  const answer = bench.ask({ kind: "pushPull", from: nodeRef("z"), isJoin: false, members: [], ...more });
  return answer?.kind === "pushPull" ? answer.members.map(({ nodeId, status }) => `${nodeId} ${status}`) : [];
}

test("a table holds self, the listed, and those whose going was seen not long ago", () => {
  const bench = known();
  bench.runUntil(1000);
  expect(tableOf(bench)).toEqual(["self alive", "a alive", "b suspect", "c left"]);
  bench.runUntil(6000);
  expect(tableOf(bench)).toEqual(["self alive", "a alive", "b suspect"]);
  expect(tableOf(known({ maxMembers: 2 }))).toHaveLength(2);
});

test("tables that list the same have equal digests, whatever came before; suspicions do not count, other lives do", () => {
  const a = new Members();
  for (const update of KNOWN) a.put(update, 0);
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
  const bench = known();
  bench.runUntil(6000);
  const asker = { from: nodeRef("d"), members: [said("d", "alive"), said("a", "alive"), said("b", "alive")] };
  expect(tableOf(bench, asker)).toEqual(["self alive", "b suspect", "d dead"]);
});
