/** The rules of leaders (semantics.md, Leadership), each in a small world without trouble of other kinds. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { LeadershipInput } from "../../../src/control/leadership/io-types.ts";
import { encodeRecord, LEADERS, SESSIONS, STORE_KEY } from "../../../src/control/leadership/records.ts";
import { GLOBAL_SCOPE } from "../../../src/control/leadership/scope.ts";
import { compareFences } from "../../../src/lib/fence.ts";
import { NEVER } from "../../../src/lib/machine.ts";
import { runs } from "../../fakes/effort.ts";
import { type Fate, type LabNode, LEASE_MS, LeaderLab, type Transaction, WALL_MS } from "../../fakes/leader-lab.ts";

const CLEANER = "custom/orders/cleaner";
const INDEX = "custom/orders/index";

/** Whether a request writes a key with this prefix. */
function writes(prefix: string): (request: Transaction) => boolean {
  return ({ changes }) => changes.some(({ key }) => key.startsWith(prefix));
}

/** The next such request has this fate, and all others are done. */
function once(node: LabNode, prefix: string, fate: Fate): void {
  let isOver = false;
  node.fateOf = (request) => {
    if (isOver || !writes(prefix)(request)) return "done";
    isOver = true;
    return fate;
  };
}

/** The events of a node, as `kind scope`. */
function eventsOf({ events }: LabNode): readonly string[] {
  return events.map(({ kind, scope }) => `${kind} ${scope}`);
}

/** A holder of the scopes, and a candidate that started later. */
function twoNodes(...scopes: readonly string[]): { lab: LeaderLab; holder: LabNode; other: LabNode } {
  const lab = new LeaderLab();
  const holder = lab.node("n1", scopes);
  lab.advance(100);
  const other = lab.node("n2", scopes);
  lab.advance(100);
  expect(holder.machine.heldScopes(holder.time)).toEqual(scopes);
  return { lab, holder, other };
}

describe("embedded store", () => {
  const own = { isOwnStore: true };

  test("the node leads at once, and an idle node writes nothing", () => {
    const lab = new LeaderLab();
    const node = lab.node("n1", [CLEANER], own);
    expect(lab.leader(CLEANER)).toMatchObject({ holderId: "n1", nodeId: "n1", term: 1, reason: "the scope had no leader" });
    expect(node.number(CLEANER)).toBe(2);
    expect(node.machine.expiryMs(lab.leader(CLEANER))).toBeUndefined();
    expect(node.dueMs).toBe(NEVER);
    expect([...node.watches.keys()]).toEqual([STORE_KEY, LEADERS]);
    expect(node.sent.map(({ changes }) => changes[0]?.key)).toEqual([STORE_KEY, LEADERS + CLEANER]);
  });

  test("the next process leads at once, with the next term and a greater fence", () => {
    const lab = new LeaderLab();
    const first = lab.node("n1", [CLEANER], own);
    first.isCrashed = true;
    const second = lab.node("n1", [CLEANER], { ...own, boot: "b2" });
    expect(lab.leader(CLEANER)).toMatchObject({ session: "n1/1-b2", term: 2 });
    expect(second.number(CLEANER)).toBe(3);
  });

  test("a stop empties the record", () => {
    const lab = new LeaderLab();
    const node = lab.node("n1", [CLEANER], own);
    node.input({ kind: "stop" });
    expect(lab.leader(CLEANER)).toMatchObject({ session: "", reason: "the node stopped" });
    expect(node.stoppedCount).toBe(1);
  });
});

describe("the store", () => {
  test("one of many nodes creates its record, and all read it", () => {
    const lab = new LeaderLab();
    const nodes = ["n1", "n2", "n3"].map((name) => lab.node(name, []));
    expect(new Set(nodes.map(({ machine }) => machine.store?.id)).size).toBe(1);
    expect(nodes[2]?.machine.store).toEqual({ clusterId: "lab", id: "n1-1", epoch: Math.floor((WALL_MS + lab.nowMs) / 1000) });
  });

  test.each([
    ["of another cluster", JSON.stringify({ clusterId: "other", id: "s", epoch: 1 }), "the control store belongs to the cluster other"],
    ["that cannot be read", "?", "the record store in the control store cannot be read"],
  ])("a store %s is a fault: the node does not stand, and refuses orders", (_, text, fault) => {
    const lab = new LeaderLab();
    lab.put(STORE_KEY, text);
    const node = lab.node("n1", [CLEANER]);
    lab.advance(10_000);
    expect(node.machine.fault).toBe(fault);
    node.input({ kind: "raiseEpoch", order: 1 });
    node.input({ kind: "resign", order: 2, scope: CLEANER, reason: "" });
    expect(node.refusals).toEqual([1, 2].map(() => ({ reason: "store_unavailable", message: fault })));
    expect(node.sent).toEqual([]);
  });

  test("a node that is not ready does not stand, and gives up its scopes", () => {
    const { lab, holder, other } = twoNodes(CLEANER);
    holder.input({ kind: "eligible", fault: "not ready" });
    expect([holder.machine.fault, holder.holds(CLEANER), other.holds(CLEANER)]).toEqual(["not ready", false, true]);
    expect(lab.leader(CLEANER).reason).toBe("n1 gave the scope up: not ready");
  });
});

describe("session", () => {
  test("is created once, and renewed every third of a lease", () => {
    const lab = new LeaderLab();
    const node = lab.node("n1", [CLEANER]);
    const start = lab.nowMs;
    lab.advance(10 * LEASE_MS);
    const sent = node.sent.filter(writes(SESSIONS));
    expect(sent.length).toBe(31);
    expect(sent.map(({ conditions }) => conditions[0]?.version === 0).filter(Boolean).length).toBe(1);
    expect(lab.sessions).toEqual(["n1/1-b1"]);
    expect(lab.nowMs - start).toBe(10 * LEASE_MS);
  });

  test("is needed only by a node that stands", () => {
    const lab = new LeaderLab();
    lab.node("n1", []);
    lab.advance(LEASE_MS);
    expect(lab.sessions).toEqual([]);
  });

  test("is valid for 11/12 of a lease after the renewal was sent, however late the answer is", () => {
    const lab = new LeaderLab();
    const node = lab.node("n1", [CLEANER]);
    once(node, SESSIONS, "held");
    lab.advance(LEASE_MS / 3 + 900);
    node.arrive();
    node.fateOf = () => "lost";
    lab.advance((LEASE_MS * 11) / 12 - 901);
    expect(node.machine.expiryMs(lab.leader(CLEANER))).toBe(lab.nowMs + 1);
    expect(node.holds(CLEANER)).toBe(true);
    lab.advance(1);
    expect(node.holds(CLEANER)).toBe(false);
    expect(node.machine.held(CLEANER, node.time)).toBeUndefined();
  });

  test.each([
    ["creation", 0, "lost", ["n1/2-b1"]],
    ["creation", 0, "unanswered", ["n1/1-b1", "n1/2-b1"]],
    ["renewal", 1, "lost", ["n1/1-b1"]],
    ["renewal", 1, "unanswered", ["n1/1-b1"]],
  ] as const)("after a %s (request %d) that was %s, the store has %j", (_, at, fate, sessions) => {
    const lab = new LeaderLab();
    const node = lab.node("n1", []);
    let count = 0;
    node.fateOf = (request) => (writes(SESSIONS)(request) && count++ === at ? fate : "done");
    node.input({ kind: "stand", scope: CLEANER, holderId: "n1" });
    lab.advance(LEASE_MS / 3 + 250);
    expect([lab.sessions, node.holds(CLEANER), eventsOf(node)]).toEqual([sessions, true, [`elected ${CLEANER}`]]);
  });

  test("that another node ended loses each scope once; after a lease, the node campaigns again with a new session", () => {
    const lab = new LeaderLab();
    const node = lab.node("n1", [CLEANER, INDEX]);
    lab.put(`${SESSIONS}n1/1-b1`, undefined);
    lab.advance(LEASE_MS / 3);
    const lost = [CLEANER, INDEX].map((scope) => `lost ${scope}`);
    expect(eventsOf(node).filter((event) => event.startsWith("lost"))).toEqual(lost);
    lab.advance(LEASE_MS - 1);
    expect(node.holds(INDEX)).toBe(false);
    lab.advance(1);
    expect(lab.leader(INDEX)).toMatchObject({ session: "n1/2-b1", term: 2, reason: "the session of n1 ended" });
    expect(node.holds(INDEX)).toBe(true);
  });

  test("is not continued in a store that went back to an earlier revision, where the node may hold less than it knows", () => {
    const lab = new LeaderLab();
    const node = lab.node("n1", [CLEANER]);
    const backup = lab.store.state;
    node.input({ kind: "stand", scope: INDEX, holderId: "n1" });
    lab.store.put("other", new Uint8Array());
    node.input({ kind: "resign", order: 1, scope: CLEANER, reason: "x" });
    lab.store.restore(backup);
    expect(node.holds(INDEX)).toBe(true);
    lab.advance(LEASE_MS / 3);
    expect(eventsOf(node)).toContain(`lost ${INDEX}`);
    lab.advance(LEASE_MS);
    expect(lab.leader(INDEX).session).toBe("n1/2-b1");
  });

  test("that is older in the store than its node knows is not used: the store was restored", () => {
    const lab = new LeaderLab();
    const node = lab.node("n1", [CLEANER]);
    const backup = lab.store.state;
    lab.advance(LEASE_MS);
    lab.store.restore(backup);
    lab.advance(LEASE_MS / 3);
    expect([node.holds(CLEANER), lab.sessions.length]).toEqual([false, 2]);
    lab.advance(LEASE_MS);
    expect([node.holds(CLEANER), lab.sessions.length]).toEqual([true, 1]);
  });
});

test("a node with many scopes has few pending requests, so that its session is renewed in time", () => {
  const lab = new LeaderLab();
  const node = lab.node("n1", []);
  const scopes = Array.from({ length: 200 }, (_, i) => `custom/orders/${i}`);
  node.fateOf = (request) => (writes(LEADERS)(request) ? "held" : "done");
  for (const scope of scopes) node.input({ kind: "stand", scope, holderId: "n1" });
  expect(node.sent.filter(writes(LEADERS))).toHaveLength(32);
  node.fateOf = () => "done";
  node.arrive();
  expect(node.machine.heldScopes(node.time)).toHaveLength(200);
});

describe("takeover", () => {
  test("happens when the session was unchanged for a whole lease, frees all scopes by one deletion, and keeps terms and fences growing", () => {
    const { lab, holder, other } = twoNodes(CLEANER, INDEX);
    lab.advance(LEASE_MS);
    const before = [CLEANER, INDEX].map((scope) => lab.leader(scope));
    // The last renewal was 200 ms ago.
    holder.isCrashed = true;
    lab.advance(LEASE_MS - 201);
    expect(other.sent.filter(({ changes }) => changes[0]?.value === undefined)).toEqual([]);
    lab.advance(1);
    const deletions = other.sent.filter(({ changes }) => changes[0]?.value === undefined);
    expect(deletions.map(({ changes }) => changes[0]?.key)).toEqual([`${SESSIONS}n1/1-b1`]);
    for (const [at, scope] of [CLEANER, INDEX].entries()) {
      expect(other.holds(scope)).toBe(true);
      expect(lab.leader(scope)).toMatchObject({ term: 2, reason: "the session of n1 ended" });
      expect(lab.leader(scope).fence.number).toBeGreaterThan(before[at]?.fence.number ?? NEVER);
    }
    const free = [CLEANER, INDEX].map((scope) => `expired ${scope}`);
    expect(eventsOf(other).filter((event) => event.startsWith("expired"))).toEqual(free);
    lab.advance(10);
    expect(eventsOf(other).filter((event) => event.startsWith("expired"))).toEqual(free);
  });

  test("names the version that was seen, so that a renewal that was not seen prevents it for another lease", () => {
    const { lab, holder, other } = twoNodes(CLEANER);
    other.deafTo.add(`${SESSIONS}n1/1-b1`);
    lab.advance(LEASE_MS / 3);
    holder.isCrashed = true;
    // The candidate saw the first version 100 ms before this test began.
    lab.advance((LEASE_MS * 2) / 3 - 100);
    expect(other.sent.filter(({ changes }) => changes[0]?.value === undefined).length).toBe(1);
    other.deafTo.clear();
    lab.report();
    lab.advance(LEASE_MS - 1);
    expect([other.holds(CLEANER), lab.sessions]).toEqual([false, ["n1/1-b1", "n2/1-b1"]]);
    lab.advance(1);
    expect(other.holds(CLEANER)).toBe(true);
  });

  test("does not happen while the store is away, and then waits for a third of a lease and 400 ms", () => {
    const { lab, holder, other } = twoNodes(CLEANER);
    holder.isCrashed = true;
    other.fateOf = () => "lost";
    lab.advance(2 * LEASE_MS);
    expect([other.machine.availability.isAvailable, lab.sessions.length]).toEqual([false, 2]);
    other.fateOf = () => "done";
    while (!other.machine.availability.isAvailable) lab.advance(1);
    expect(other.machine.availability.answeredMs).toBe(lab.nowMs);
    lab.advance(LEASE_MS / 3 + 399);
    expect(other.holds(CLEANER)).toBe(false);
    lab.advance(1);
    expect(other.holds(CLEANER)).toBe(true);
  });

  test("waits in the same way after an answer that the store has delayed", () => {
    const { lab, holder, other } = twoNodes(CLEANER);
    holder.isCrashed = true;
    once(other, SESSIONS, "held");
    lab.advance(LEASE_MS - 200);
    other.arrive();
    lab.advance(LEASE_MS / 3 + 399);
    expect(other.holds(CLEANER)).toBe(false);
    lab.advance(1);
    expect(other.holds(CLEANER)).toBe(true);
  });

  test.each([
    ["the holder's", JSON.stringify({ nodeId: "x", leaseMs: 9000, renewedWallMs: 0 }), 9000],
    ["the longest that there is, if the session cannot be read", "?", 60_000],
  ])("waits for the lease of the session: %s", (_, session, leaseMs) => {
    const { lab, holder, other } = twoNodes(CLEANER);
    holder.isCrashed = true;
    lab.put(`${SESSIONS}n1/1-b1`, session);
    lab.advance(leaseMs - 1);
    expect(other.holds(CLEANER)).toBe(false);
    lab.advance(1);
    expect(other.holds(CLEANER)).toBe(true);
  });

  test("never happens to an unreadable record, which counts as held", () => {
    const lab = new LeaderLab();
    lab.put(LEADERS + CLEANER, "{}");
    const node = lab.node("n1", [CLEANER]);
    lab.advance(3 * LEASE_MS);
    expect(node.holds(CLEANER)).toBe(false);
    expect([...node.machine.leaders]).toEqual([[CLEANER, undefined]]);
  });

  test("does not happen while the watch on sessions is behind the watch on leaders", () => {
    const lab = new LeaderLab();
    const first = lab.node("n1", [GLOBAL_SCOPE, CLEANER]);
    first.deafTo.add(SESSIONS);
    first.input({ kind: "withdraw", scope: CLEANER, reason: "over" });
    const second = lab.node("n2", [CLEANER]);
    first.input({ kind: "stand", scope: CLEANER, holderId: "n1" });
    lab.advance(10);
    expect([second.holds(CLEANER), first.holds(CLEANER)]).toEqual([true, false]);
  });

  test("keeps the time of silence when the candidate becomes the leader of the global scope", () => {
    const lab = new LeaderLab();
    const [first, second] = [lab.node("n1", [GLOBAL_SCOPE]), lab.node("n2", [CLEANER])];
    const third = lab.node("n3", [GLOBAL_SCOPE, CLEANER]);
    lab.advance(1);
    first.isCrashed = true;
    second.isCrashed = true;
    lab.advance(LEASE_MS);
    expect([third.holds(GLOBAL_SCOPE), third.holds(CLEANER)]).toEqual([true, true]);
  });
});

describe("fence", () => {
  test("has 1 + the revision of the store, also if the record was deleted", () => {
    const { lab, holder, other } = twoNodes(CLEANER);
    const before = holder.number(CLEANER) ?? NEVER;
    holder.isCrashed = true;
    lab.put(LEADERS + CLEANER, undefined);
    expect(lab.leader(CLEANER).term).toBe(1);
    expect(other.number(CLEANER)).toBeGreaterThan(before);
  });

  test("has 1 + the highest number of the scope, if that is above the revision", () => {
    const lab = new LeaderLab();
    const node = lab.node("n1", [CLEANER]);
    const record = { ...lab.leader(CLEANER), session: "", fence: { failoverVersion: 0, storeEpoch: 1, number: 1_000_000 } };
    lab.put(LEADERS + CLEANER, new TextDecoder().decode(encodeRecord(record)));
    expect(node.number(CLEANER)).toBe(1_000_001);
  });

  test.each([
    ["now", 5, 5],
    ["one more, if that is later", 0, 1],
  ])("has the epoch of the store, and a raised epoch is %s", (_, seconds, raisedBy) => {
    const { lab, holder, other } = twoNodes(CLEANER);
    lab.advance(seconds * 1000);
    const before = holder.fence(CLEANER);
    other.input({ kind: "raiseEpoch", order: 1 });
    expect(other.refusals).toEqual([undefined]);
    expect(holder.machine.store?.epoch).toBe(before.storeEpoch + raisedBy);
    expect(compareFences(holder.fence(CLEANER), before)).toBeGreaterThan(0);
    expect(lab.leader(CLEANER)).toMatchObject({ term: 2, fence: { storeEpoch: before.storeEpoch + raisedBy } });
    expect(eventsOf(holder)).toEqual(["elected", "stepped_down", "elected"].map((kind) => `${kind} ${CLEANER}`));
  });

  test("is greater than the fence of a program whose record was removed, even if the candidate never read that record", () => {
    const { lab, holder, other } = twoNodes(CLEANER);
    for (const prefix of other.watches.keys()) other.deafTo.add(prefix);
    holder.input({ kind: "stand", scope: INDEX, holderId: "program" });
    const before = holder.number(INDEX) ?? expect.fail("the program leads");
    holder.input({ kind: "withdraw", scope: INDEX, reason: "over" });
    expect(lab.store.keys(LEADERS)).not.toContain(LEADERS + INDEX);
    other.input({ kind: "stand", scope: INDEX, holderId: "n2" });
    expect(lab.leader(INDEX)).toMatchObject({ holderId: "n2", term: 1 });
    expect(lab.leader(INDEX).fence.number).toBeGreaterThan(before);
  });

  test("is not made from an epoch that has been raised meanwhile", () => {
    const { lab, holder, other } = twoNodes(CLEANER);
    other.deafTo.add(STORE_KEY);
    holder.input({ kind: "raiseEpoch", order: 1 });
    holder.input({ kind: "withdraw", scope: CLEANER, reason: "over" });
    lab.advance(LEASE_MS);
    expect(other.holds(CLEANER)).toBe(false);
    other.deafTo.clear();
    lab.report();
    lab.advance(200);
    expect(other.fence(CLEANER).storeEpoch).toBe(holder.machine.store?.epoch);
  });

  test("has a greater epoch after the store was restored from a backup and its epoch raised", () => {
    const { lab, holder, other } = twoNodes(CLEANER);
    const backup = lab.store.state;
    holder.input({ kind: "withdraw", scope: CLEANER, reason: "over" });
    lab.advance(LEASE_MS);
    const before = other.fence(CLEANER);
    lab.store.restore(backup);
    lab.restart();
    lab.advance(2 * LEASE_MS);
    other.input({ kind: "raiseEpoch", order: 1 });
    lab.advance(2 * LEASE_MS);
    expect(other.refusals).toEqual([undefined]);
    expect(compareFences(other.fence(CLEANER), before)).toBeGreaterThan(0);
  });
});

describe("a store that is set up again", () => {
  test("has a greater epoch even if the clock went back, and no leader for a lease, because earlier leaders can still act", () => {
    const { lab, holder, other } = twoNodes(CLEANER);
    const before = holder.fence(CLEANER);
    lab.wallAheadMs = -86_400_000;
    lab.wipe();
    expect([holder.holds(CLEANER), other.machine.store?.epoch]).toEqual([false, before.storeEpoch + 1]);
    lab.advance(LEASE_MS - 1);
    expect([holder, other].filter((node) => node.holds(CLEANER))).toEqual([]);
    lab.advance(1);
    const leader = [holder, other].find((node) => node.holds(CLEANER));
    expect(leader?.fence(CLEANER).storeEpoch).toBe(before.storeEpoch + 1);
  });

  test("is noticed even if another program has a key with the same prefix", () => {
    const { lab, holder } = twoNodes(CLEANER);
    const before = holder.fence(CLEANER);
    lab.wallAheadMs = -86_400_000;
    lab.store.restore({ revision: 0, changes: new Map() });
    lab.store.put(`${STORE_KEY}-of-another`, new Uint8Array());
    lab.restart();
    expect(holder.machine.store?.epoch).toBe(before.storeEpoch + 1);
  });

  test("elects no node that has not read its record, even if its keys have the same versions", () => {
    const { lab, other } = twoNodes(CLEANER);
    for (const prefix of other.watches.keys()) other.deafTo.add(prefix);
    const { versions } = lab.store.transact([{ key: STORE_KEY, version: -1 }], []);
    lab.store.restore({ revision: 0, changes: new Map() });
    lab.store.put(STORE_KEY, encodeRecord({ clusterId: "lab", id: "another", epoch: 1 }), versions[0]);
    other.input({ kind: "stand", scope: INDEX, holderId: "n2" });
    lab.advance(200);
    expect([other.sent.some(writes(LEADERS)), lab.store.keys(LEADERS)]).toEqual([true, []]);
  });

  test("replaces items that have the same versions", () => {
    const { lab, other } = twoNodes(CLEANER);
    const version = lab.store.versionOf(LEADERS + CLEANER);
    const record = { ...lab.leader(CLEANER), holderId: "n9", nodeId: "n9", session: "n9/1-b9" };
    lab.store.restore({ revision: 0, changes: new Map() });
    lab.store.put(LEADERS + CLEANER, encodeRecord(record), version);
    lab.restart();
    expect(other.machine.leaders.get(CLEANER)?.holderId).toBe("n9");
  });
});

test("many silent sessions are deleted a few at a time", () => {
  const lab = new LeaderLab();
  const node = lab.node("n1", [GLOBAL_SCOPE]);
  for (let at = 0; at < 200; at++) lab.put(`${SESSIONS}n9/${at}-b9`, JSON.stringify({ nodeId: "n9", leaseMs: LEASE_MS, renewedWallMs: 0 }));
  node.fateOf = (request) => (request.changes[0]?.value === undefined ? "held" : "done");
  lab.advance(LEASE_MS);
  const pending = node.sent.filter(({ changes }) => changes[0]?.value === undefined).length;
  expect([pending > 0, pending <= 32]).toEqual([true, true]);
  node.fateOf = () => "done";
  node.arrive();
  lab.advance(2000);
  expect(lab.sessions).toEqual(["n1/1-b1"]);
});

test("a record that cannot be read counts as held, and the error of resign names it", () => {
  const lab = new LeaderLab();
  const node = lab.node("n1", [CLEANER]);
  lab.put(LEADERS + INDEX, JSON.stringify("x".repeat(1_400_000)));
  node.input({ kind: "stand", scope: INDEX, holderId: "n1" });
  node.input({ kind: "resign", order: 1, scope: INDEX, reason: "" });
  expect([node.holds(INDEX), node.refusals[0]?.message]).toEqual([
    false,
    "the record leaders/custom/orders/index cannot be read; when its holder has stopped, remove the record from the control store",
  ]);
  expect([...node.machine.events.current()]).toContainEqual([INDEX, undefined]);
});

describe("resign", () => {
  test("by a mark of another node: the holder stops at once, empties its record and stands again after one lease", () => {
    const { lab, holder, other } = twoNodes(CLEANER);
    other.input({ kind: "withdraw", scope: CLEANER, reason: "" });
    once(holder, LEADERS, "held");
    other.input({ kind: "resign", order: 7, scope: CLEANER, reason: "maintenance" });
    expect([other.refusals, lab.leader(CLEANER).resign, holder.holds(CLEANER)]).toEqual([[undefined], "maintenance", false]);
    holder.arrive();
    expect(lab.leader(CLEANER)).toMatchObject({ session: "", reason: "maintenance", resign: undefined });
    lab.advance(LEASE_MS - 1);
    expect(holder.holds(CLEANER)).toBe(false);
    lab.advance(1);
    expect(lab.leader(CLEANER)).toMatchObject({ session: "n1/1-b1", term: 2, reason: "n1 gave the scope up: maintenance" });
  });

  test("gives the scope to a candidate at once, and an empty reason is a reason", () => {
    const { lab, holder, other } = twoNodes(CLEANER);
    holder.input({ kind: "resign", order: 1, scope: CLEANER, reason: "" });
    expect([holder.holds(CLEANER), other.holds(CLEANER)]).toEqual([false, true]);
    other.input({ kind: "resign", order: 1, scope: CLEANER, reason: "x".repeat(5000) });
    lab.advance(LEASE_MS);
    expect(lab.leader(CLEANER).term).toBe(3);
  });

  test("is final under its fence, even if the answer is lost", () => {
    const { lab, holder } = twoNodes(CLEANER);
    const number = holder.number(CLEANER);
    holder.fateOf = (request) => (writes(LEADERS)(request) ? "lost" : "done");
    holder.input({ kind: "withdraw", scope: CLEANER, reason: "over" });
    holder.input({ kind: "stand", scope: CLEANER, holderId: "n1" });
    lab.advance(LEASE_MS);
    expect([lab.leader(CLEANER).fence.number, holder.holds(CLEANER)]).toEqual([number, false]);
    holder.fateOf = () => "done";
    lab.advance(200);
    expect(lab.leader(CLEANER)).toMatchObject({ term: 2, session: "n1/1-b1" });
    expect(holder.number(CLEANER)).toBeGreaterThan(number ?? NEVER);
  });

  test.each([
    ["a scope without a record", INDEX, "done", "no_leader"],
    ["a scope that is free", CLEANER, "done", "no_leader"],
    ["a leader that has changed", GLOBAL_SCOPE, "held", "version_conflict"],
    ["a store that does not answer", GLOBAL_SCOPE, "lost", "store_unavailable"],
  ] as const)("of %s is refused", (_, scope, fate, reason) => {
    const { lab, holder, other } = twoNodes(CLEANER, GLOBAL_SCOPE);
    for (const node of [other, holder]) node.input({ kind: "withdraw", scope: CLEANER, reason: "over" });
    once(other, LEADERS, fate);
    other.input({ kind: "resign", order: 1, scope, reason: "x" });
    if (fate === "held") holder.input({ kind: "withdraw", scope, reason: "over" });
    other.arrive();
    expect(other.refusals.map((refusal) => refusal?.reason)).toEqual([reason]);
    expect(lab.sessions.length).toBe(2);
  });
});

describe("holders", () => {
  test.each(["first", "second"])("after a holder withdrew, %s never acts under its fence", (holderId) => {
    const lab = new LeaderLab();
    const node = lab.node("n1", []);
    node.input({ kind: "stand", scope: CLEANER, holderId: "first" });
    const number = node.number(CLEANER);
    expect([lab.leader(CLEANER).holderId, number]).toEqual(["first", expect.any(Number)]);
    once(node, LEADERS, "lost");
    node.input({ kind: "withdraw", scope: CLEANER, reason: "over" });
    node.input({ kind: "stand", scope: CLEANER, holderId });
    expect(node.holds(CLEANER)).toBe(false);
    lab.advance(200);
    expect(lab.leader(CLEANER)).toMatchObject({ holderId, term: 1, reason: "the scope had no leader" });
    expect(node.number(CLEANER)).toBeGreaterThan(number ?? NEVER);
  });

  test("a record whose holder withdrew before it was written is not its successor's", () => {
    const lab = new LeaderLab();
    const node = lab.node("n1", []);
    once(node, LEADERS, "held");
    node.input({ kind: "stand", scope: CLEANER, holderId: "first" });
    node.input({ kind: "withdraw", scope: CLEANER, reason: "over" });
    node.input({ kind: "stand", scope: CLEANER, holderId: "second" });
    node.arrive();
    expect([lab.leader(CLEANER).term, lab.leader(CLEANER).holderId, node.holds(CLEANER)]).toEqual([1, "second", true]);
  });

  test("a record that arrives late in the store, after its holder withdrew, is removed", () => {
    const lab = new LeaderLab();
    const node = lab.node("n1", []);
    once(node, LEADERS, "late");
    node.input({ kind: "stand", scope: CLEANER, holderId: "program" });
    node.input({ kind: "withdraw", scope: CLEANER, reason: "over" });
    lab.advance(LEASE_MS);
    node.arrive();
    expect(lab.store.keys(LEADERS)).toEqual([]);
    expect(node.holds(CLEANER)).toBe(false);
  });
});

describe("stop", () => {
  test("empties the records, ends the session, and reports the end once", () => {
    const { lab, holder, other } = twoNodes(CLEANER, INDEX);
    holder.input({ kind: "stop" });
    holder.input({ kind: "stop" });
    expect([other.holds(CLEANER), other.holds(INDEX), holder.stoppedCount, lab.sessions]).toEqual([true, true, 1, ["n2/1-b1"]]);
    expect(lab.leader(CLEANER).reason).toBe("n1 gave the scope up: the node stopped");
    expect(holder.dueMs).toBe(NEVER);
  });

  test("waits for pending requests, and a program that stands meanwhile is ignored", () => {
    const lab = new LeaderLab();
    const node = lab.node("n1", []);
    once(node, LEADERS, "held");
    node.input({ kind: "stand", scope: CLEANER, holderId: "n1" });
    node.input({ kind: "stop" });
    node.input({ kind: "stand", scope: INDEX, holderId: "n1" });
    expect(node.stoppedCount).toBe(0);
    node.arrive();
    expect([node.stoppedCount, lab.sessions, lab.leader(CLEANER).session]).toEqual([1, [], ""]);
  });

  test("without a session ends at once, and a lost answer to the end of the session does not delay it", () => {
    const lab = new LeaderLab();
    const [idle, node] = [lab.node("n1", []), lab.node("n2", [CLEANER])];
    idle.input({ kind: "stop" });
    node.fateOf = ({ changes }) => (changes[0]?.value === undefined ? "lost" : "done");
    node.input({ kind: "stop" });
    expect([idle.stoppedCount, node.stoppedCount, lab.leader(CLEANER).session]).toEqual([1, 1, ""]);
  });
});

describe("watches", () => {
  test("are on the sessions of holders that this node may succeed", () => {
    const { lab, holder, other } = twoNodes(CLEANER);
    lab.node("n3", [INDEX]);
    const common = [STORE_KEY, LEADERS];
    expect([...holder.watches.keys()]).toEqual(common);
    expect([...other.watches.keys()]).toEqual([...common, `${SESSIONS}n1/1-b1`]);
    holder.input({ kind: "withdraw", scope: CLEANER, reason: "over" });
    expect([...other.watches.keys()]).toEqual(common);
  });

  test("of the leader of the global scope are on all sessions, and it removes silent ones", () => {
    const lab = new LeaderLab();
    const node = lab.node("n1", [GLOBAL_SCOPE]);
    expect([...node.watches.keys()]).toEqual([STORE_KEY, LEADERS, SESSIONS]);
    lab.advance(500);
    lab.put(`${SESSIONS}n9/1-b1`, JSON.stringify({ nodeId: "n9", leaseMs: LEASE_MS, renewedWallMs: 0 }));
    lab.advance(LEASE_MS - 1);
    expect(lab.sessions).toEqual(["n1/1-b1", "n9/1-b1"]);
    lab.advance(1);
    expect(lab.sessions).toEqual(["n1/1-b1"]);
    node.input({ kind: "withdraw", scope: GLOBAL_SCOPE, reason: "over" });
    expect([...node.watches.keys()]).toEqual([STORE_KEY, LEADERS]);
  });
});

test("a node whose events are read watches all sessions and reports renewals; without a session of its own, it does not end those of others", () => {
  const lab = new LeaderLab();
  const [holder, reader] = [lab.node("n1", [CLEANER]), lab.node("n2", [])];
  reader.input({ kind: "follow", isFollowed: true });
  lab.advance(LEASE_MS / 3);
  expect(reader.events.map(({ kind }) => kind)).toContain("renewed");
  holder.isCrashed = true;
  lab.advance(3 * LEASE_MS);
  expect(lab.leader(CLEANER).nodeId).toBe("n1");
  expect(lab.sessions).toHaveLength(1);
  reader.input({ kind: "follow", isFollowed: false });
  expect([...reader.watches.keys()].filter((prefix) => prefix.startsWith("sessions/"))).toEqual([]);
});

test("only the leader of the global scope compacts, up to what it knew one interval ago", () => {
  const lab = new LeaderLab();
  const options = { compactMs: 10_000 };
  const [holder, other] = [lab.node("n1", [GLOBAL_SCOPE], options), lab.node("n2", [GLOBAL_SCOPE], options)];
  const known: [low: number, high: number][] = [[0, holder.machine.revision]];
  for (let count = 1; count <= 3; count++) {
    lab.advance(9999);
    const low = holder.machine.revision;
    expect(holder.compacted.length).toBe(count - 1);
    lab.advance(1);
    known.push([low, holder.machine.revision]);
  }
  for (const [at, revision] of holder.compacted.entries()) {
    expect(revision).toBeGreaterThanOrEqual(known[at]?.[0] ?? NEVER);
    expect(revision).toBeLessThanOrEqual(known[at]?.[1] ?? 0);
  }
  expect(other.compacted).toEqual([]);
});

test("no tick leaves a deadline in the past, whatever was lost, late or ordered", () => {
  const scope = fc.constantFrom(GLOBAL_SCOPE, CLEANER);
  const input: fc.Arbitrary<LeadershipInput> = fc.oneof(
    fc.record({ kind: fc.constantFrom("withdraw" as const), scope, reason: fc.constant("over") }),
    fc.record({ kind: fc.constant("stand" as const), scope, holderId: fc.constantFrom("a", "b") }),
    fc.record({ kind: fc.constant("resign" as const), order: fc.constant(1), scope, reason: fc.constant("x") }),
    fc.record({ kind: fc.constant("eligible" as const), fault: fc.constantFrom("", "not ready") }),
    fc.constantFrom<LeadershipInput>({ kind: "raiseEpoch", order: 1 }, { kind: "changed", prefix: LEADERS, changes: undefined }),
  );
  const fate = fc.constantFrom<Fate>("done", "done", "lost", "unanswered", "held", "late");
  const step = fc.record({ node: fc.nat(2), input, fate, advance: fc.nat(4000), arrives: fc.boolean() });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), fc.boolean(), (steps, stops) => {
      const lab = new LeaderLab();
      const nodes = ["n1", "n2", "n3"].map((name) => lab.node(name, [GLOBAL_SCOPE, CLEANER], { compactMs: 2500 }));
      for (const { node: at, input: given, fate: drawn, advance, arrives } of steps) {
        const node = nodes[at];
        if (node === undefined) throw new Error("there are three nodes");
        node.fateOf = () => drawn;
        node.input(given);
        // The lab checks the deadline of each tick.
        lab.advance(advance);
        if (arrives) node.arrive();
      }
      for (const node of nodes) {
        node.fateOf = () => "done";
        node.arrive();
        if (stops) node.input({ kind: "stop" });
      }
      lab.advance(3 * LEASE_MS);
      if (stops) expect(nodes.map(({ stoppedCount }) => stoppedCount)).toEqual([1, 1, 1]);
    }),
    { numRuns: runs(200) },
  );
});
